//! A JSON reader that knows where everything stands.
//!
//! It reads RFC 8259 and keeps the byte range of every key and value, so that whoever finds fault with a
//! value can point at it. What people get wrong most often (trailing commas, comments, single quotes, keys
//! without quotes, a key given twice) is named.

use std::ops::Range;

/// A value and where it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Byte range in the text.
    pub(crate) span: Range<usize>,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// The number as written: its meaning is for the field to decide.
    Number(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// Where the key stands, quotes included.
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Value {
    /// What to call a value of this kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Why and where a text is not JSON.
#[derive(Debug, PartialEq)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
    pub(crate) hint: Option<&'static str>,
}

/// Deeper than any configuration, and shallow enough for the stack.
const MAX_DEPTH: usize = 64;

/// Reads one JSON value that fills `text`.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { text, at: text.strip_prefix('\u{feff}').map_or(0, |_| 3) };
    let node = reader.value(0)?;
    reader.skip_space()?;
    if reader.at < text.len() {
        return Err(reader.unexpected("the end of the file"));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn error(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: Option<&'static str>,
    ) -> SyntaxError {
        SyntaxError { message: message.into(), span, hint }
    }

    fn unexpected(&self, wanted: &str) -> SyntaxError {
        match self.peek() {
            None => {
                self.error(self.at..self.at, format!("expected {wanted}, found the end of the file"), None)
            }
            Some(c) => {
                let shown = if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
                let hint = (c == '\'').then_some("JSON strings stand in double quotes");
                self.error(
                    self.at..self.at + c.len_utf8(),
                    format!("expected {wanted}, found `{shown}`"),
                    hint,
                )
            }
        }
    }

    fn skip_space(&mut self) -> Result<(), SyntaxError> {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.at += 1;
        }
        let rest = &self.text[self.at..];
        if rest.starts_with('#') || rest.starts_with("//") || rest.starts_with("/*") {
            let end = rest.find('\n').map_or(self.text.len(), |n| self.at + n);
            return Err(self.error(self.at..end, "JSON has no comments", Some("remove the comment")));
        }
        Ok(())
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.skip_space()?;
        let start = self.at;
        if depth > MAX_DEPTH {
            return Err(self.error(start..start + 1, "nested too deeply", None));
        }
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::String(self.string()?),
            Some('-' | '0'..='9') => Value::Number(self.number()?),
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { value, span: start..self.at })
    }

    fn object(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        self.skip_space()?;
        if self.eat('}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space()?;
            let start = self.at;
            let key = match self.peek() {
                Some('"') => self.string()?,
                Some('}') => return Err(self.trailing_comma(start)),
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                    let len = self.text[start..].find(|c: char| !c.is_alphanumeric() && c != '_');
                    let end = len.map_or(self.text.len(), |len| start + len);
                    return Err(self.error(
                        start..end,
                        "a key without quotes",
                        Some("put it in double quotes"),
                    ));
                }
                None => return Err(self.error(open..open + 1, "this `{` is never closed", None)),
                _ => return Err(self.unexpected("a key in double quotes")),
            };
            let key_span = start..self.at;
            if members.iter().any(|m| m.key == key) {
                return Err(self.error(
                    key_span,
                    format!("`{key}` is given twice"),
                    Some("keep one of the two"),
                ));
            }
            self.skip_space()?;
            if !self.eat(':') {
                return Err(self.unexpected("`:` after the key"));
            }
            let node = self.value(depth + 1)?;
            let end = node.span.end;
            members.push(Member { key, key_span, node });
            self.skip_space()?;
            if self.eat('}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(',') {
                return Err(self.missing_comma(open, end, "`,` or `}`"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space()?;
        if self.eat(']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.skip_space()?;
            match self.peek() {
                Some(']') => return Err(self.trailing_comma(self.at)),
                None => return Err(self.error(open..open + 1, "this `[` is never closed", None)),
                _ => {}
            }
            let node = self.value(depth + 1)?;
            let end = node.span.end;
            items.push(node);
            self.skip_space()?;
            if self.eat(']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(',') {
                return Err(self.missing_comma(open, end, "`,` or `]`"));
            }
        }
    }

    fn trailing_comma(&self, before: usize) -> SyntaxError {
        let comma = self.text[..before].rfind(',').unwrap_or(before);
        self.error(comma..comma + 1, "a comma with nothing after it", Some("remove the comma"))
    }

    fn missing_comma(&self, open: usize, end: usize, wanted: &str) -> SyntaxError {
        match self.peek() {
            None => {
                let bracket = &self.text[open..=open];
                self.error(open..open + 1, format!("this `{bracket}` is never closed"), None)
            }
            // The comma belongs right after the value, not where the next token happens to stand.
            Some('"' | '{' | '[') => {
                self.error(end..end, format!("expected {wanted} here"), Some("add a comma"))
            }
            Some(_) => self.unexpected(wanted),
        }
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        let len = self.text[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let end = len.map_or(self.text.len(), |len| start + len);
        self.at = end;
        match &self.text[start..end] {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            "True" | "False" | "TRUE" | "FALSE" => Err(self.error(
                start..end,
                "not a JSON value",
                Some("write `true` and `false` in lower case"),
            )),
            _ => Err(self.error(start..end, "not a JSON value", Some("strings stand in double quotes"))),
        }
    }

    fn number(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let len = self.text[start..].find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let mut end = len.map_or(self.text.len(), |len| start + len);
        let text = &self.text[start..end];
        if !is_number(text) || self.text[end..].starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let more = self.text[end..].find(|c: char| !c.is_ascii_alphanumeric());
            end = more.map_or(self.text.len(), |more| end + more);
            let hint =
                "a size with a unit or a hexadecimal number stands in double quotes, such as \"300MB\"";
            return Err(self.error(start..end, "not a number", Some(hint)));
        }
        self.at = end;
        Ok(text.to_owned())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let at = self.at;
            let Some(c) = self.peek() else {
                return Err(self.error(open..open + 1, "this string is never closed", None));
            };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\\' => out.push(self.escape(at)?),
                '\n' => {
                    return Err(self.error(
                        open..at,
                        "a string ends on the line it starts on",
                        Some("close the quote"),
                    ));
                }
                c if c < ' ' => return Err(self.error(at..at + 1, "a control character in a string", None)),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<char, SyntaxError> {
        let Some(c) = self.peek() else {
            return Err(self.error(start..start + 1, "an escape that is cut off", None));
        };
        self.at += c.len_utf8();
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode_escape(start),
            _ => {
                return Err(self.error(
                    start..self.at,
                    "no such escape",
                    Some("a backslash is written `\\\\`"),
                ));
            }
        })
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, SyntaxError> {
        let first = self.hex4(start)?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex4(start)?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.error(start..self.at, "half of a surrogate pair", None));
            }
            code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| self.error(start..self.at, "half of a surrogate pair", None))
    }

    fn hex4(&mut self, start: usize) -> Result<u32, SyntaxError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return Err(self.error(start..self.at, "`\\u` wants four hexadecimal digits", None));
        };
        self.at += 4;
        Ok(code)
    }
}

/// RFC 8259, section 6.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.find('.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> (String, &str) {
        let e = parse(text).unwrap_err();
        (e.message, &text[e.span])
    }

    #[test]
    fn a_document_keeps_the_place_of_every_key_and_value() {
        let text = r#"{ "a": [1, "x\n\u00e9\ud83d\ude00"], "b": {"c": null} }"#;
        let Value::Object(members) = parse(text).unwrap().value else { panic!("not an object") };
        assert_eq!(&text[members[0].key_span.clone()], "\"a\"");
        assert_eq!(&text[members[1].node.span.clone()], r#"{"c": null}"#);
        let Value::Array(items) = &members[0].node.value else { panic!("not a list") };
        assert_eq!(items[0].value, Value::Number("1".into()));
        assert_eq!(items[1].value, Value::String("x\né😀".into()));
    }

    #[test]
    fn the_usual_slips_are_named() {
        assert_eq!(fails(r#"{"a": 1,}"#), ("a comma with nothing after it".into(), ","));
        assert_eq!(fails("[1 2]"), ("expected `,` or `]`, found `2`".into(), "2"));
        assert_eq!(fails(r#"{"a": 1 "b": 2}"#), ("expected `,` or `}` here".into(), ""));
        assert_eq!(fails("{a: 1}"), ("a key without quotes".into(), "a"));
        assert_eq!(fails("{'a': 1}"), ("expected a key in double quotes, found `'`".into(), "'"));
        assert_eq!(fails(r#"{"a": 300MB}"#), ("not a number".into(), "300MB"));
        assert_eq!(fails(r#"{"a": 0x10}"#), ("not a number".into(), "0x10"));
        assert_eq!(fails(r#"{"a": True}"#), ("not a JSON value".into(), "True"));
        assert_eq!(fails("{\"a\": 1, // x\n}"), ("JSON has no comments".into(), "// x"));
        assert_eq!(fails(r#"{"a": 1, "a": 2}"#), ("`a` is given twice".into(), "\"a\""));
        assert_eq!(fails(r#"{"a": [1"#), ("this `[` is never closed".into(), "["));
        assert_eq!(fails("[\"x\n\"]"), ("a string ends on the line it starts on".into(), "\"x"));
        assert_eq!(fails("{} x"), ("expected the end of the file, found `x`".into(), "x"));
        assert_eq!(fails(""), ("expected a value, found the end of the file".into(), ""));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        assert_eq!(parse(&"[".repeat(100_000)).unwrap_err().message, "nested too deeply");
    }

    #[test]
    fn any_cut_of_a_document_is_an_error_and_never_a_panic() {
        let text = r#"{ "a": [1.5e3, "x\u00e9"], "ß": {"c": true} }"#;
        for (cut, _) in text.char_indices() {
            assert!(parse(&text[..cut]).is_err(), "{cut}");
        }
    }
}
