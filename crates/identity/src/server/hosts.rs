//! Names of hosts that a listener treats each in its own way.

/// Names of hosts, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// All with one or more labels before this: `*.example.com` is held as `example.com`.
    Below(String),
}

impl HostPattern {
    /// The length of what must be as it says, if a name fits; an exact one is longer than all others.
    fn weight(&self, name: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(name).then_some(usize::MAX),
            Self::Below(suffix) => {
                let dot = name.len().checked_sub(suffix.len() + 1).filter(|dot| *dot > 0)?;
                let (before, end) = (name.get(..dot)?, name.get(dot..)?);
                let fits = end.starts_with('.')
                    && end[1..].eq_ignore_ascii_case(suffix)
                    && !before.ends_with('.');
                fits.then_some(suffix.len())
            }
        }
    }

    /// Which of several fits a name best: an exact one, then the longest; the first among equals.
    pub fn best<'a>(
        patterns: impl IntoIterator<Item = &'a Self>,
        name: Option<&str>,
    ) -> Option<usize> {
        let name = name?;
        let name = name.strip_suffix('.').unwrap_or(name);
        let fitting = patterns
            .into_iter()
            .enumerate()
            .filter_map(|(at, pattern)| Some((pattern.weight(name)?, std::cmp::Reverse(at))));
        fitting.max().map(|(_, std::cmp::Reverse(at))| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_pattern_decides() {
        let exact = |name: &str| HostPattern::Exact(name.into());
        let below = |name: &str| HostPattern::Below(name.into());
        let all = [below("example"), exact("a.example"), below("b.example"), exact("a.example")];
        for (name, at) in [
            (Some("a.example"), Some(1)),
            (Some("A.Example."), Some(1)),
            (Some("c.example"), Some(0)),
            (Some("c.b.example"), Some(2)),
            (Some("C.B.EXAMPLE"), Some(2)),
            (Some("b.example"), Some(0)),
            (Some("example"), None),
            (Some(".example"), None),
            (Some("..example"), None),
            (Some("bexample"), None),
            (Some("éexample"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(HostPattern::best(&all, name), at, "{name:?}");
        }
    }
}
