//! The place of a component in a node: its typed side, and the one that all components have alike.

use std::{
    collections::HashSet,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use weft_api::Part;
use weft_kernel::Result;
use weft_ledger::Transaction;
use weft_net::Stop;
use weft_proxy::{Handlers, Local};
use weft_telemetry::metrics::Writer;

use super::{Component, Host, Pending};
use crate::{config::Plan, node::Node};

/// The place of a component in a node.
pub struct Slot<C: Component> {
    running: OnceLock<Arc<C>>,
    locals: C::Locals,
    /// What only opening it puts in force, as it was then; until then as at the start.
    fixed: Mutex<C::Fixed>,
    /// The workers that have its part.
    begun: Mutex<HashSet<usize>>,
    /// What it does of itself; cut when it is dropped.
    task: Mutex<Option<(Stop, JoinSet<()>)>>,
}

impl<C: Component> Slot<C> {
    /// The place of a component that is not opened yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            running: OnceLock::new(),
            locals: C::Locals::default(),
            fixed: Mutex::new(C::fixed(C::plan(plan))),
            begun: Mutex::default(),
            task: Mutex::default(),
        }
    }

    /// The component, if a configuration has asked for it.
    pub fn get(&self) -> Option<&Arc<C>> {
        self.running.get()
    }

    /// What its component prepares; what is wrong is added to the faults.
    pub async fn prepare(&self, plan: &Plan, faults: &mut Vec<String>) -> Option<C::Ready> {
        match self.get()?.prepare(C::plan(plan)).await {
            Ok(ready) => Some(ready),
            Err(wrong) => {
                faults.extend(wrong);
                None
            }
        }
    }

    /// Lets its component add what it keeps to a transaction.
    pub async fn stage(
        &self,
        ready: &mut Option<C::Ready>,
        to: &mut Transaction,
    ) -> anyhow::Result<()> {
        match (self.get(), ready) {
            (Some(component), Some(ready)) => component.stage(ready, to).await,
            _ => Ok(()),
        }
    }

    /// Lets its component commit.
    pub async fn commit(&self, ready: Option<C::Ready>) {
        if let (Some(component), Some(ready)) = (self.get(), ready) {
            component.commit(ready).await;
        }
    }
}

/// What is done to all components alike; see [`Component`].
pub trait Member: Send + Sync {
    /// Whether it is exclusive.
    fn is_exclusive(&self) -> bool;
    /// Whether a plan asks for it.
    fn is_asked_for(&self, plan: &Plan) -> bool;
    /// Whether it is open.
    fn is_open(&self) -> bool;
    /// Opens it, if the plan asks for it and it is not open.
    fn open<'a>(&'a self, plan: &'a Plan, host: &'a Host) -> Pending<'a, anyhow::Result<()>>;
    /// The settings that wait for a restart.
    fn awaits_restart(&self, plan: &Plan) -> Vec<&'static str>;
    /// Adds its locals to what routes and listeners can name.
    fn register(&self, handlers: Handlers) -> Handlers;
    /// Begins its part on a worker, if it is open and has not yet.
    fn begin(&self, local: &Rc<Local>);
    /// Begins what it does of itself, if it is open and has not yet.
    fn run(&self);
    /// Ends what it does of itself.
    fn end(&self) -> Pending<'_, ()>;
    /// Whether it can do what it is for.
    fn health(&self) -> Result<()>;
    /// Tells a scrape how it is.
    fn measure(&self, to: &mut Writer);
    /// Its rows of the table of operations.
    fn part(&self, node: &Arc<Node>) -> Part;
    /// Lets go of everything.
    fn close(&self);
}

impl<C: Component> Member for Slot<C> {
    fn is_exclusive(&self) -> bool {
        C::EXCLUSIVE
    }

    fn is_asked_for(&self, plan: &Plan) -> bool {
        C::plan(plan).is_some()
    }

    fn is_open(&self) -> bool {
        self.get().is_some()
    }

    fn open<'a>(&'a self, plan: &'a Plan, host: &'a Host) -> Pending<'a, anyhow::Result<()>> {
        Box::pin(async move {
            if let (Some(plan), None) = (C::plan(plan), self.get()) {
                let opened = Arc::new(C::open(plan, host, &self.locals).await?);
                self.running.set(opened).map_err(|_open| anyhow::anyhow!("it is open already"))?;
                *self.fixed.lock() = C::fixed(Some(plan));
            }
            Ok(())
        })
    }

    fn awaits_restart(&self, plan: &Plan) -> Vec<&'static str> {
        let plan = C::plan(plan);
        // What was opened for a reload that was refused has not begun, and waits for nothing.
        let is_idle = self.is_open() && self.task.lock().is_none();
        if is_idle && plan.is_none() {
            return Vec::new();
        }
        C::awaits_restart(&self.fixed.lock(), plan)
    }

    fn register(&self, handlers: Handlers) -> Handlers {
        C::register(&self.locals, handlers)
    }

    fn begin(&self, local: &Rc<Local>) {
        if let Some(component) = self.get()
            && self.begun.lock().insert(local.index)
        {
            component.begin(local);
        }
    }

    fn run(&self) {
        let Some(component) = self.get() else { return };
        self.task.lock().get_or_insert_with(|| {
            let (stop, mut task) = (Stop::new(), JoinSet::new());
            task.spawn(component.clone().run(stop.clone()));
            (stop, task)
        });
    }

    fn end(&self) -> Pending<'_, ()> {
        let task = self.task.lock().take();
        Box::pin(async move {
            let Some((stop, mut task)) = task else { return };
            stop.close();
            while task.join_next().await.is_some() {}
        })
    }

    fn health(&self) -> Result<()> {
        self.get().map_or(Ok(()), |component| component.health())
    }

    fn measure(&self, to: &mut Writer) {
        if let Some(component) = self.get() {
            component.measure(to);
        }
    }

    fn part(&self, node: &Arc<Node>) -> Part {
        match self.get() {
            Some(component) => Part::new(C::operations(), component.api(node)),
            None => Part::absent(C::operations(), C::ABSENT),
        }
    }

    fn close(&self) {
        if let Some(component) = self.get() {
            component.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::config::{Loader, plan::Admin};

    /// Runs where there is an admin API, and has something against one at port 1.
    #[derive(Default)]
    struct Fake {
        committed: AtomicU32,
    }

    impl Component for Fake {
        type Plan = Admin;
        type Ready = u32;
        type Fixed = Option<Admin>;
        type Locals = ();
        type Api = ();
        type Noun = crate::cli::verbs::OfTable<Self>;

        const ABSENT: &'static str = "there is no fake";

        fn plan(plan: &Plan) -> Option<&Admin> {
            plan.admin.as_ref()
        }

        async fn open(_plan: &Admin, _host: &Host, (): &()) -> anyhow::Result<Self> {
            Ok(Self::default())
        }

        fn fixed(plan: Option<&Admin>) -> Option<Admin> {
            plan.cloned()
        }

        fn awaits_restart(fixed: &Option<Admin>, plan: Option<&Admin>) -> Vec<&'static str> {
            if fixed.as_ref() == plan { Vec::new() } else { vec!["fake"] }
        }

        async fn prepare(&self, plan: Option<&Admin>) -> Result<u32, Vec<String>> {
            match plan {
                Some(plan) if plan.listen.to_string().ends_with(":1") => {
                    Err(vec!["one".to_owned(), "two".to_owned()])
                }
                Some(_) => Ok(1),
                None => Ok(100),
            }
        }

        async fn commit(&self, ready: u32) {
            self.committed.fetch_add(ready, Ordering::Relaxed);
        }

        fn api(self: &Arc<Self>, _node: &Arc<Node>) {}
    }

    fn plan(yaml: &str) -> Plan {
        let loaded = Loader::default().load_text(Path::new("weft.yaml"), yaml, &|_name| None);
        loaded.unwrap().plan
    }

    fn host() -> Host {
        Host::idle().unwrap()
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_not_there_and_says_so() {
        let off = plan("admin: off");
        let slot = Slot::<Fake>::new(&off);
        slot.open(&off, &host()).await.unwrap();
        assert!(slot.get().is_none());
        let mut faults = Vec::new();
        let ready = slot.prepare(&plan("admin: 127.0.0.1:1"), &mut faults).await;
        assert!(ready.is_none() && faults.is_empty());
        slot.commit(ready).await;
        slot.run();
        assert!(slot.health().is_ok() && slot.task.lock().is_none());
        assert_eq!(slot.awaits_restart(&plan("admin: on")), ["fake"]);
    }

    #[tokio::test]
    async fn one_that_runs_prepares_every_plan_and_commits_what_it_prepared() {
        let on = plan("admin: on");
        let slot = Slot::<Fake>::new(&on);
        slot.open(&on, &host()).await.unwrap();
        let mut faults = vec!["of another".to_owned()];
        let ready = slot.prepare(&plan("admin: 127.0.0.1:1"), &mut faults).await;
        assert_eq!((ready, faults.len()), (None, 3), "{faults:?}");
        for (yaml, sum) in [("admin: on", 1), ("admin: off", 101)] {
            let ready = slot.prepare(&plan(yaml), &mut faults).await;
            slot.commit(ready).await;
            assert_eq!(slot.get().unwrap().committed.load(Ordering::Relaxed), sum);
        }
        assert!(slot.awaits_restart(&on).is_empty());
        slot.run();
        slot.end().await;
        let first = Arc::as_ptr(slot.get().unwrap());
        slot.open(&on, &host()).await.unwrap();
        assert_eq!(Arc::as_ptr(slot.get().unwrap()), first, "it is opened once");
    }

    #[tokio::test]
    async fn one_that_a_later_configuration_asks_for_is_opened_then() {
        let (off, on) = (plan("admin: off"), plan("admin: on"));
        let slot = Slot::<Fake>::new(&off);
        slot.open(&off, &host()).await.unwrap();
        assert!(!slot.is_open());
        slot.open(&on, &host()).await.unwrap();
        assert!(slot.is_open());
        assert!(slot.awaits_restart(&on).is_empty(), "it has been opened with just this");
        assert_eq!(slot.awaits_restart(&plan("admin: 127.0.0.1:1")), ["fake"]);
        assert!(slot.awaits_restart(&off).is_empty(), "that configuration may be refused");
        slot.run();
        assert_eq!(slot.awaits_restart(&off), ["fake"]);
        slot.end().await;
    }
}
