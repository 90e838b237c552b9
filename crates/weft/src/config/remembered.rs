//! What was made of large sections, for as long as they stand as they stood.
//!
//! Ten thousand consumers are digests and tables that a reload would make anew for one more route. What was
//! made is kept with the sections that it was made of, and with all else that it depends on. It is taken as it is while
//! the very sections stand again ([`kept`](super::kept)); only where they stand may differ. What something was said of, or
//! files were read for, is made anew each time.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    fmt,
    sync::Arc,
};

use super::{
    kept::{PlacedSection, Standing},
    setting::Cx,
    source::Place,
};

/// What was made, by its type.
#[derive(Default)]
pub(super) struct Remembered(RefCell<HashMap<TypeId, Made>>);

struct Made {
    /// The section of each file.
    of: Vec<(u32, PlacedSection)>,
    beside: Box<dyn Any + Send>,
    made: Arc<dyn Any + Send + Sync>,
    /// Where secrets stand in it.
    secrets: Vec<Place>,
}

impl Made {
    /// Where its secrets stand now, if it was made of these sections.
    fn secrets_in(&self, now: &[(u32, PlacedSection)]) -> Option<Vec<Place>> {
        let moved = |(then, now): (&(u32, PlacedSection), &(u32, PlacedSection))| {
            let moved = now.1.moved_from(&then.1)?;
            (then.0 == now.0).then_some((now.0, moved))
        };
        let all = (self.of.len() == now.len()).then(|| self.of.iter().zip(now).map(moved))?;
        let moved = all.collect::<Option<HashMap<_, _>>>()?;
        self.secrets.iter().map(|place| Some(place.shifted(*moved.get(&place.file)?))).collect()
    }
}

impl Remembered {
    /// What `make` makes of the section of a key and of what is `beside` it; as it was made before, if that is the same.
    pub(super) fn of<B, M>(
        &self,
        (key, standing): (&str, &Standing),
        beside: B,
        cx: &mut Cx,
        make: impl FnOnce(&mut Cx) -> M,
    ) -> Arc<M>
    where
        B: PartialEq + Send + 'static,
        M: Send + Sync + 'static,
    {
        let now = standing.of(key);
        let type_id = TypeId::of::<M>();
        if let (Some(now), Some(made)) = (now, self.0.borrow().get(&type_id))
            && made.beside.downcast_ref() == Some(&beside)
            && let Some(secrets) = made.secrets_in(now)
            && let Ok(made) = Arc::clone(&made.made).downcast()
        {
            cx.secrets.extend(secrets);
            return made;
        }
        let before = (cx.problems.len(), cx.secrets.len());
        // Also one that was read before for something else is read here.
        let mut files = std::mem::take(&mut cx.files);
        let made = Arc::new(make(cx));
        let is_quiet = cx.problems.len() == before.0 && cx.files.is_empty();
        cx.files.append(&mut files);
        let made_of = now.filter(|_| is_quiet).map(|now| Made {
            of: now.to_vec(),
            beside: Box::new(beside),
            made: Arc::clone(&made) as Arc<dyn Any + Send + Sync>,
            secrets: cx.secrets.get(before.1..).unwrap_or_default().to_vec(),
        });
        let mut all = self.0.borrow_mut();
        match made_of {
            Some(made) => drop(all.insert(type_id, made)),
            None => drop(all.remove(&type_id)),
        }
        made
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remembered").field(&self.0.borrow().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, path::Path};

    use weft_gateway::Directory;

    use crate::{
        components::gateway::plan::Gateway,
        config::{Loader, load::Loaded},
    };

    const DIGEST: &str = "sha256:";

    /// A configuration of so many consumers with digests of keys, and what stands before and behind them.
    fn text(before: &str, consumers: usize, behind: &str) -> String {
        let mut text = format!("admin: off\n{before}\nconsumers:\n");
        for number in 0..consumers {
            let _ = writeln!(text, "  c{number}: {{ api_keys: '{DIGEST}{number:064x}' }}");
        }
        text.push_str("listeners: { web: { address: '127.0.0.1:80' } }\n");
        text + behind
    }

    fn load(loader: &mut Loader, text: &str) -> Loaded {
        let loaded = loader.load_text(Path::new("weft.yaml"), text, &|_| None);
        loaded.unwrap_or_else(|refused| panic!("{refused}"))
    }

    fn directory(loaded: &Loaded) -> *const Directory {
        let gateway = loaded.plan.parts.get::<Gateway>().expect("there are consumers");
        std::sync::Arc::as_ptr(&gateway.consumers)
    }

    #[test]
    fn consumers_are_made_anew_if_they_or_what_they_depend_on_changed_and_only_then() {
        let mut loader = Loader::default();
        let issuers = |name: &str| {
            format!(
                "issuers: {{ {name}: {{ issuer: 'https://i', audiences: a, keys: {{ url: 'https://i/keys' }} }} }}"
            )
        };
        // Each is held, so that no place is used twice.
        let mut held = Vec::new();
        let mut is_same = |text: &str| {
            let loaded = load(&mut loader, text);
            let before = held.last().map(directory);
            let same = before == Some(directory(&loaded));
            held.push(loaded);
            same
        };
        assert!(!is_same(&text("", 100, "")));
        assert!(is_same(&text("# a line more", 100, "")));
        assert!(is_same(&text("# a line more", 100, "telemetry: { access_log: off }\n")));
        assert!(is_same(&text("", 100, "telemetry: { access_log: off }\n")));
        assert!(!is_same(&text("", 101, "telemetry: { access_log: off }\n")));
        assert!(
            !is_same(&text(&issuers("one"), 101, "telemetry: { access_log: off }\n")),
            "subjects name issuers"
        );
        assert!(is_same(&text(&issuers("one"), 101, "")));
        assert!(is_same(&text(&issuers("one"), 101, "telemetry: { access_log: off }\n")));
        assert!(!is_same(&text(&issuers("two"), 101, "telemetry: { access_log: off }\n")));
    }

    #[test]
    fn secrets_of_what_is_remembered_are_shown_to_nobody() {
        let mut loader = Loader::default();
        let mut made = Vec::new();
        for before in ["", "# moves all of it by some bytes", "# é"] {
            let loaded = load(&mut loader, &text(before, 100, ""));
            made.push(directory(&loaded));
            let shown = &loaded.sources.files()[0].text;
            assert!(!shown.contains(DIGEST), "{before}: {shown}");
            assert!(
                shown.contains("c99: {") && shown.contains("listeners: {"),
                "{before}: {shown}"
            );
        }
    }

    #[test]
    fn a_key_in_a_file_is_read_by_each_load() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, mut loader) = (folder.path().join("key"), Loader::default());
        let with = |behind: &str| {
            let text = text("", 100, behind);
            let file = format!("  z: {{ api_keys: 'file:{}' }}\nlisteners:", file.display());
            text.replace("listeners:", &file)
        };
        let key = |text: &str| weft_gateway::Digest::of_api_key(text.as_bytes());
        for (number, text) in ["0123456789-0123456789", "abcdefghij-abcdefghij"].iter().enumerate()
        {
            std::fs::write(&file, text).expect("the file can be written");
            let loaded = load(&mut loader, &with(&format!("# {number}\n")));
            let gateway = loaded.plan.parts.get::<Gateway>().expect("there are consumers");
            assert!(gateway.consumers.holder(&key(text)).is_some(), "{text}");
        }
    }
}
