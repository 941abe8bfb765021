//! Takes typed fields out of a JSON object and keeps account of what is wrong.
//!
//! A reader goes on after a mistake, with a default in its place, so that one run reports all mistakes of a
//! file. A member that nobody asked for is unknown.

use super::diagnostic;
use super::json::{Member, Node, Value};
use super::size;
use std::cell::RefCell;
use std::ops::Range;

/// One mistake.
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
    pub(crate) hint: Option<String>,
}

/// A field that was accepted but has no effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Obsolete {
    /// Its dotted path.
    pub(crate) field: String,
    /// Why it has none.
    pub(crate) why: &'static str,
}

/// What was found while a file was read.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) mistakes: RefCell<Vec<Mistake>>,
    pub(crate) notes: RefCell<Vec<Obsolete>>,
}

impl Findings {
    /// Records that what stands at `span` is wrong.
    pub(crate) fn mistake(&self, span: &Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.mistakes.borrow_mut().push(Mistake { message: message.into(), span: span.clone(), hint });
    }
}

/// A JSON object that is being read.
pub(crate) struct Object<'a> {
    members: &'a [Member],
    /// Dotted, for messages. Empty at the top.
    path: String,
    asked: Vec<&'static str>,
    findings: &'a Findings,
}

impl<'a> Object<'a> {
    /// Reads `node`, or an empty object in place of something else.
    pub(crate) fn new(node: &'a Node, path: &str, findings: &'a Findings) -> Self {
        let members = match &node.value {
            Value::Object(members) => members.as_slice(),
            other => {
                let what = if path.is_empty() { "the file" } else { path };
                findings.mistake(&node.span, format!("`{what}` is an object, not {}", other.kind()), None);
                &[]
            }
        };
        Self { members, path: path.to_owned(), asked: Vec::new(), findings }
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// The value of `field`. Null is as good as absent.
    pub(crate) fn node(&mut self, field: &'static str) -> Option<&'a Node> {
        self.asked.push(field);
        let member = self.members.iter().find(|m| m.key == field)?;
        (member.node.value != Value::Null).then_some(&member.node)
    }

    fn wrong_kind(&self, node: &Node, field: &str, wanted: &str, hint: Option<String>) {
        let found = node.value.kind();
        self.findings.mistake(
            &node.span,
            format!("`{}` is {wanted}, not {found}", self.path_of(field)),
            hint,
        );
    }

    /// The object in `field`.
    pub(crate) fn object(&mut self, field: &'static str) -> Option<Object<'a>> {
        let path = self.path_of(field);
        let findings = self.findings;
        self.node(field).map(|node| Object::new(node, &path, findings))
    }

    /// The list in `field`.
    pub(crate) fn list(&mut self, field: &'static str) -> Option<&'a [Node]> {
        let node = self.node(field)?;
        match &node.value {
            Value::Array(items) => Some(items),
            _ => {
                self.wrong_kind(node, field, "a list", None);
                None
            }
        }
    }

    /// A list of strings, each with its place.
    pub(crate) fn strings(&mut self, field: &'static str) -> Option<Vec<(String, Range<usize>)>> {
        let items = self.list(field)?;
        let mut strings = Vec::new();
        for item in items {
            match &item.value {
                Value::String(s) => strings.push((s.clone(), item.span.clone())),
                _ => self.wrong_kind(item, field, "a list of strings", None),
            }
        }
        Some(strings)
    }

    /// A string.
    pub(crate) fn string(&mut self, field: &'static str) -> Option<(String, Range<usize>)> {
        let node = self.node(field)?;
        match &node.value {
            Value::String(s) => Some((s.clone(), node.span.clone())),
            _ => {
                self.wrong_kind(node, field, "a string", None);
                None
            }
        }
    }

    /// A size such as "300MB", in bytes.
    pub(crate) fn size(&mut self, field: &'static str) -> Option<u64> {
        let node = self.node(field)?;
        let text = match &node.value {
            Value::String(s) | Value::Number(s) => s,
            _ => {
                self.wrong_kind(node, field, "a size", Some(size::HINT.to_owned()));
                return None;
            }
        };
        match size::parse(text) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                let message = format!("`{}`: {why}", self.path_of(field));
                self.findings.mistake(&node.span, message, Some(size::HINT.to_owned()));
                None
            }
        }
    }

    /// A whole number from 0 to `max`, also in a string, there in hexadecimal too ("0x1f").
    pub(crate) fn number(&mut self, field: &'static str, max: u64) -> Option<u64> {
        let node = self.node(field)?;
        let number = match &node.value {
            Value::Number(text) => text.parse().ok(),
            Value::String(text) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            },
            _ => {
                self.wrong_kind(node, field, "a number", None);
                return None;
            }
        };
        if number.is_none_or(|n| n > max) {
            let message = format!("`{}` is a whole number from 0 to {max}", self.path_of(field));
            self.findings.mistake(&node.span, message, None);
            return None;
        }
        number
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, field: &'static str) -> Option<bool> {
        let node = self.node(field)?;
        match &node.value {
            Value::Bool(b) => Some(*b),
            _ => {
                let hint = Some("write `true` or `false`, without quotes".to_owned());
                self.wrong_kind(node, field, "a boolean", hint);
                None
            }
        }
    }

    /// Whether a feature is on: a boolean, or a number from 0 (off) to `max`. Off if it is absent.
    pub(crate) fn switch(&mut self, field: &'static str, max: u64) -> bool {
        match self.node(field).map(|node| &node.value) {
            Some(Value::Bool(on)) => *on,
            Some(_) => self.number(field, max).is_some_and(|number| number > 0),
            None => false,
        }
    }

    /// Accepts a field of older versions that means nothing any more. A value that asks for nothing needs no note.
    pub(crate) fn obsolete(&mut self, field: &'static str, why: &'static str) {
        let Some(node) = self.node(field) else { return };
        let asks_for_nothing = match &node.value {
            Value::Bool(on) => !on,
            Value::Number(text) | Value::String(text) => text.is_empty() || text == "0",
            _ => false,
        };
        if !asks_for_nothing {
            self.findings.notes.borrow_mut().push(Obsolete { field: self.path_of(field), why });
        }
    }

    /// Reports the members that nobody asked for.
    pub(crate) fn finish(self) {
        for member in self.members {
            if self.asked.contains(&member.key.as_str()) {
                continue;
            }
            let hint = match diagnostic::did_you_mean(&member.key, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the fields here are {}", list(&self.asked)),
            };
            let message = format!("unknown field `{}`", self.path_of(&member.key));
            self.findings.mistake(&member.key_span, message, Some(hint));
        }
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}
