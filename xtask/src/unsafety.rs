//! Where unsafe code is, and how much of it.
//!
//! `unsafe-budget.txt` gives the number of `unsafe` blocks, functions and implementations that a crate may have. A crate that
//! is not in it has none and forbids it. More than the budget fails, so that growth shows in review; less is said, so that the
//! budget shrinks with the code.

use crate::workspace::{self, Crate};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const BUDGET: &str = "xtask/unsafe-budget.txt";

/// Runs the check.
///
/// # Errors
///
/// When a crate has more unsafe code than the budget allows.
pub(crate) fn run() -> Result<()> {
    let budget = parse_budget(&fs::read_to_string(workspace::root().join(BUDGET)).context(BUDGET)?)?;
    let mut offenders = Vec::new();
    let mut total = 0;
    for member in workspace::crates()? {
        let count = count_in(&workspace::root().join(&member.folder).join("src"))?;
        total += count;
        match budget.get(&member.name) {
            Some(&allowed) if count > allowed => offenders.push(format!(
                "`{}` has {count} uses of unsafe, and {BUDGET} allows {allowed}: if that is right, change the file",
                member.name
            )),
            Some(&allowed) if count < allowed => {
                println!("unsafe: `{}` needs {count} of {allowed}: lower {BUDGET}", member.name);
            }
            Some(_) => {}
            None if count > 0 => offenders.push(format!("`{}` must not have unsafe code", member.name)),
            None if !forbids(&member)? => {
                offenders.push(format!("`{}` does not say `#![forbid(unsafe_code)]`", member.name));
            }
            None => {}
        }
    }
    workspace::verdict("unsafe", &offenders)?;
    println!("unsafe: {total} uses, all in {} crates that may have them", budget.len());
    Ok(())
}

fn parse_budget(text: &str) -> Result<BTreeMap<String, usize>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("{BUDGET}: `{line}`"))?;
            Ok((name.to_owned(), count.trim().parse().with_context(|| format!("{BUDGET}: `{line}`"))?))
        })
        .collect()
}

fn forbids(member: &Crate) -> Result<bool> {
    let source = workspace::root().join(&member.folder).join("src");
    let root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|file| file.exists());
    let root = root.with_context(|| format!("`{}` has no src/lib.rs or src/main.rs", member.name))?;
    Ok(fs::read_to_string(root)?.contains("#![forbid(unsafe_code)]"))
}

fn count_in(folder: &Path) -> Result<usize> {
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            total += count_in(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            total += count(&fs::read_to_string(&path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(total)
}

/// Counts the word `unsafe` outside comments and strings, and outside attributes such as `#[unsafe(naked)]`.
fn count(source: &str) -> usize {
    let code = code_only(source);
    let mut total = 0;
    let mut rest = code.as_str();
    while let Some(at) = rest.find("unsafe") {
        let (before, after) = (&rest[..at], &rest[at + "unsafe".len()..]);
        let is_word = !before.ends_with(is_word_char) && !after.starts_with(is_word_char);
        if is_word && !after.starts_with('(') {
            total += 1;
        }
        rest = after;
    }
    total
}

pub(crate) fn is_word_char(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Removes line comments, block comments (not nested) and string literals (raw strings with one `#` at most).
pub(crate) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |at| at + 5)
        } else if character == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find("'").map_or(rest.len(), |at| at + 2)
        } else {
            code.push(character);
            character.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_functions_and_implementations_count() {
        assert_eq!(count("unsafe fn f() { unsafe { g() } }\nunsafe impl Send for T {}"), 3);
    }

    #[test]
    fn comments_strings_attributes_and_longer_words_do_not_count() {
        assert_eq!(count("// unsafe\n/* unsafe */ let s = \"un\\\"safe unsafe\"; unsafe_code"), 0);
        assert_eq!(
            count("#[unsafe(naked)] fn f() {} #![forbid(unsafe_code)] let q = '\"'; r#\"unsafe \"q\" \"#"),
            0
        );
        assert_eq!(count("let q = '\"'; unsafe { g() } let p = '\"';"), 1);
    }

    #[test]
    fn a_budget_is_a_name_and_a_number_per_line() {
        let budget = parse_budget("# comment\n\nocclum-rt 12\n").unwrap();
        assert_eq!(budget.get("occlum-rt"), Some(&12));
        assert!(parse_budget("occlum-rt many").is_err());
    }
}
