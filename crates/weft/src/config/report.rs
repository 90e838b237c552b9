//! Problems as people and programs read them.

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{
    problem::{Problem, Severity},
    source::{Place, Sources},
};

/// Lines shown around a place.
const LINES_AROUND: usize = 1;
/// The most problems that are shown in full; the rest are counted.
const SHOWN_MAX: usize = 100;

/// All problems as text, each with its place and an excerpt; `colour` for a terminal.
pub fn text(problems: &[Problem], sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems.iter().take(SHOWN_MAX) {
        out.push_str(&one(problem, sources, &renderer));
        out.push_str("\n\n");
    }
    if problems.len() > SHOWN_MAX {
        out.push_str(&format!("… and {} more\n\n", problems.len() - SHOWN_MAX));
    }
    out
}

fn one(problem: &Problem, sources: &Sources, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = match &problem.file {
        Some(file) => format!("{}: {}", file.display(), printable(&problem.message)),
        None => printable(&problem.message),
    };
    let title = level.primary_title(message);
    let mut elements: Vec<annotate_snippets::Element<'_>> = Vec::new();
    if let Some(place) = problem.place {
        let mut shown = vec![Excerpt::around(place, sources)];
        let primary = (place, None, AnnotationKind::Primary);
        let also = problem
            .also
            .iter()
            .map(|(place, why)| (*place, Some(why.as_str()), AnnotationKind::Context));
        for (place, label, kind) in std::iter::once(primary).chain(also) {
            if !shown.iter().flatten().any(|excerpt| excerpt.holds(place)) {
                shown.push(Excerpt::around(place, sources));
            }
            if let Some(excerpt) = shown.iter_mut().flatten().find(|excerpt| excerpt.holds(place)) {
                excerpt.marks.push((place, label, kind));
            }
        }
        elements.extend(shown.into_iter().flatten().map(|excerpt| excerpt.snippet().into()));
    }
    if let Some(help) = &problem.help {
        elements.push(Level::HELP.message(printable(help)).into());
    }
    renderer.render(&[title.elements(elements)])
}

/// Control characters never reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A few lines around a place. Only they are handed to the renderer, so that a hundred problems in a
/// large file stay cheap.
struct Excerpt<'a> {
    file: u32,
    path: String,
    start: usize,
    text: &'a str,
    first_line: usize,
    marks: Vec<(Place, Option<&'a str>, AnnotationKind)>,
}

impl<'a> Excerpt<'a> {
    fn around(place: Place, sources: &'a Sources) -> Option<Self> {
        let file = sources.file(place)?;
        let text = &*file.text;
        let (place_start, place_end) = (place.start as usize, place.end as usize);
        text.get(place_start..place_end)?;
        let mut start = text[..place_start].rfind('\n').map_or(0, |at| at + 1);
        let mut end = text[place_end..].find('\n').map_or(text.len(), |at| place_end + at);
        for _ in 0..LINES_AROUND {
            if start > 0 {
                start = text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
            }
            if end < text.len() {
                end = text[end + 1..].find('\n').map_or(text.len(), |at| end + 1 + at);
            }
        }
        Some(Self {
            file: place.file,
            path: file.path.display().to_string(),
            start,
            text: &text[start..end],
            first_line: text[..start].bytes().filter(|b| *b == b'\n').count() + 1,
            marks: Vec::new(),
        })
    }

    fn holds(&self, place: Place) -> bool {
        place.file == self.file
            && place.start as usize >= self.start
            && place.end as usize <= self.start + self.text.len()
    }

    fn snippet(self) -> Snippet<'a, Annotation<'a>> {
        let start = self.start;
        let length = self.text.len();
        Snippet::source(self.text)
            .path(self.path)
            .line_start(self.first_line)
            .fold(false)
            .annotations(self.marks.into_iter().map(move |(place, label, kind)| {
                let from = place.start as usize - start;
                // An empty range would have nothing to underline.
                let to = (place.end as usize - start).max((from + 1).min(length));
                kind.span(from..to).label(label)
            }))
    }
}

/// All problems for programs: a list of objects with `severity`, `message`, `file`, `line`,
/// `column`, `end_line`, `end_column`, `help` and `also`.
pub fn json(problems: &[Problem], sources: &Sources) -> Value {
    let place = |place: Place| -> Value {
        let end = Place { start: place.end, ..place };
        match (sources.position(place), sources.position(end)) {
            (Some(from), Some(to)) => json!({
                "file": from.path.display().to_string(),
                "line": from.line,
                "column": from.column,
                "end_line": to.line,
                "end_column": to.column,
            }),
            _ => json!({}),
        }
    };
    Value::Array(
        problems
            .iter()
            .map(|problem| {
                let mut object = json!({
                    "severity": problem.severity.word(),
                    "message": problem.message,
                });
                if let Some(at) = problem.place
                    && let (Value::Object(object), Value::Object(at)) = (&mut object, place(at))
                {
                    object.extend(at);
                }
                if let Some(file) = &problem.file {
                    object["file"] = json!(file.display().to_string());
                }
                if let Some(help) = &problem.help {
                    object["help"] = json!(help);
                }
                if !problem.also.is_empty() {
                    object["also"] = problem
                        .also
                        .iter()
                        .map(|(at, why)| {
                            let mut value = place(*at);
                            value["message"] = json!(why);
                            value
                        })
                        .collect();
                }
                object
            })
            .collect(),
    )
}
