//! Which components a node has: the one list.
//!
//! It reads from the top: what stands on another stands before it. They open from the bottom, those that
//! need something for themselves alone at last; and they commit, stop and close from the top. The store
//! stands at the bottom, since any of them may keep something.

mod below;
pub mod consumers;
pub mod discovery;
pub mod gateway;
pub mod idempotency;
pub mod messages;
pub mod networks;
pub mod outboxes;
pub mod projections;
pub mod quotas;
pub mod schemas;
pub mod storage;
pub mod streams;
pub mod telemetry;
mod trust;

use std::{
    process::ExitCode,
    rc::Rc,
    sync::{Arc, LazyLock},
};

use anyhow::Context as _;
use weft_api::{Operation, Part};
use weft_kernel::Result;
use weft_ledger::{Durability, Transaction};
use weft_proxy::{Handlers, Local};
use weft_telemetry::metrics::{Def, Writer};

pub use self::{
    consumers::Consumers,
    discovery::Discovery,
    gateway::Gateway,
    idempotency::Idempotency,
    messages::Messages,
    networks::Networks,
    outboxes::Outboxes,
    projections::Projections,
    quotas::Quotas,
    schemas::Schemas,
    storage::Storage,
    streams::Streams,
    telemetry::{Collector, Telemetry},
};
use crate::{
    admin,
    component::{Component, Host, Member, Noun as _, Slot, contribution},
    config::{
        Plan,
        catalogue::{Catalogue, Contribution},
    },
    node::Node,
};

/// Makes of the list what must know the type of each: its place, what it prepares, its nouns.
macro_rules! components {
    ($($name:ident: $Component:ident,)*) => {
        /// The components of a node.
        pub struct Components {
            $(
                #[doc = concat!("The place of [`", stringify!($Component), "`].")]
                pub $name: Slot<$Component>,
            )*
        }

        /// What the components have prepared.
        #[derive(Default)]
        pub struct Ready {
            $(
                #[doc = concat!("What [`", stringify!($Component), "`] has, if it runs.")]
                pub $name: Option<<$Component as Component>::Ready>,
            )*
        }

        /// The nouns of the components on the command line.
        #[derive(Debug, clap::Subcommand)]
        pub enum Noun {
            $(
                #[doc = concat!("Those of [`", stringify!($Component), "`].")]
                #[command(flatten)]
                $Component(<$Component as Component>::Noun),
            )*
        }

        impl Noun {
            /// Does what was asked for.
            pub fn run(self) -> anyhow::Result<ExitCode> {
                match self {
                    $(Self::$Component(noun) => noun.run(),)*
                }
            }
        }

        impl Components {
            /// The components that a first configuration asks for; none is open yet.
            pub fn new(plan: &Plan) -> Self {
                Self { $($name: Slot::new(plan),)* }
            }

            /// What they have to do with a configuration.
            pub fn contributions() -> Vec<Contribution> {
                vec![$(contribution::<$Component>(),)*]
            }

            /// The metrics that they bring.
            pub fn metrics() -> Vec<&'static Def> {
                let mut all = Vec::new();
                $(all.extend($Component::metrics());)*
                all
            }

            /// Every operation of the node and of its components, whether these run or not.
            pub fn operations() -> Vec<&'static Operation> {
                let mut all: Vec<_> = admin::OPERATIONS.iter().map(|row| &row.operation).collect();
                $(all.extend($Component::operations().iter().map(|row| &row.operation));)*
                all
            }

            /// Lets all that are open prepare a plan. What is wrong is added to the faults; with any, what
            /// was prepared is to be dropped.
            pub async fn prepare(&self, plan: &Plan, faults: &mut Vec<String>) -> Ready {
                let mut ready = Ready::default();
                self.prepare_rest(plan, &mut ready, faults).await;
                ready
            }

            /// Lets those prepare that have not.
            pub async fn prepare_rest(
                &self,
                plan: &Plan,
                ready: &mut Ready,
                faults: &mut Vec<String>,
            ) {
                $(if ready.$name.is_none() {
                    ready.$name = self.$name.prepare(plan, faults).await;
                })*
            }

            /// Lets all commit: what any of them keeps is one transaction of the store.
            ///
            /// # Errors
            /// What the store says. Nothing is changed then.
            pub async fn commit(&self, mut ready: Ready) -> anyhow::Result<()> {
                let mut kept = Transaction::new(Durability::Fsync);
                let mut ends = Vec::new();
                $(
                    let staged = self.$name.stage(&mut ready.$name, &mut kept).await;
                    staged.context(stringify!($name))?;
                    ends.push((kept.ops.len(), stringify!($name)));
                )*
                if !kept.ops.is_empty() {
                    let storage = self.storage.get().context("no store is open to keep it in")?;
                    storage.keep(kept, &ends).await?;
                }
                $(self.$name.commit(ready.$name).await;)*
                Ok(())
            }
        }

        impl List for Components {
            fn all(&self) -> Vec<&dyn Member> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

components! {
    gateway: Gateway,
    networks: Networks,
    consumers: Consumers,
    quotas: Quotas,
    idempotency: Idempotency,
    outboxes: Outboxes,
    schemas: Schemas,
    messages: Messages,
    projections: Projections,
    streams: Streams,
    discovery: Discovery,
    telemetry: Telemetry,
    storage: Storage,
}

/// The sections of a configuration: the node's own and those of its components.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<&Catalogue> =
        LazyLock::new(|| Catalogue::new(Components::contributions()));
    *CATALOGUE
}

/// What is done to all components of a list alike.
pub trait List: Sync {
    /// Their places, from the top.
    fn all(&self) -> Vec<&dyn Member>;

    /// Opens those that a plan asks for and that are exclusive or not, and are not open yet.
    ///
    /// # Errors
    /// Why one cannot be opened.
    fn open(
        &self,
        plan: &Plan,
        host: &Host,
        exclusive: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        async move {
            let all = self.all().into_iter().rev();
            for member in all.filter(|member| member.is_exclusive() == exclusive) {
                member.open(plan, host).await?;
            }
            Ok(())
        }
    }

    /// Whether a plan needs something that one process alone can have.
    fn is_exclusive(&self, plan: &Plan) -> bool {
        self.all().into_iter().any(|member| member.is_exclusive() && member.is_asked_for(plan))
    }

    /// The settings that are otherwise than at the start, and wait for the next one.
    fn awaits_restart(&self, plan: &Plan) -> Vec<&'static str> {
        self.all().into_iter().flat_map(|member| member.awaits_restart(plan)).collect()
    }

    /// What of them routes and listeners can name, also before they are open.
    fn handlers(&self) -> Handlers {
        self.all()
            .into_iter()
            .fold(Handlers::default(), |handlers, member| member.register(handlers))
    }

    /// Begins their parts on a worker, those that have not.
    fn begin(&self, local: &Rc<Local>) {
        self.all().into_iter().for_each(|member| member.begin(local));
    }

    /// How many are open.
    fn opened(&self) -> usize {
        self.all().into_iter().filter(|member| member.is_open()).count()
    }

    /// Begins what they do of themselves, those that have not.
    fn run(&self) {
        self.all().into_iter().for_each(Member::run);
    }

    /// Ends what they do of themselves, one after the other.
    fn end(&self) -> impl Future<Output = ()> + Send {
        async move {
            for member in self.all() {
                member.end().await;
            }
        }
    }

    /// Whether all can do what they are for.
    ///
    /// # Errors
    /// What keeps the first that cannot.
    fn health(&self) -> Result<()> {
        self.all().into_iter().try_for_each(Member::health)
    }

    /// Tells a scrape how they are.
    fn measure(&self, to: &mut Writer) {
        self.all().into_iter().for_each(|member| member.measure(to));
    }

    /// Their rows of the table of operations.
    fn parts(&self, node: &Arc<Node>) -> Vec<Part> {
        self.all().into_iter().map(|member| member.part(node)).collect()
    }

    /// Lets go of what one process alone can have, so that a successor gets it.
    fn let_go(&self) {
        self.all().into_iter().filter(|member| member.is_exclusive()).for_each(Member::close);
    }

    /// Writes what waits, and lets go of everything.
    fn close(&self) {
        self.all().into_iter().for_each(Member::close);
    }
}

#[cfg(test)]
pub mod tests;
