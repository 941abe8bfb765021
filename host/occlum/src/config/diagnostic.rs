//! Shows a place in a text the way compilers do, and guesses what a misspelt word was meant to be.

use std::fmt::Write as _;
use std::ops::Range;

/// Longest line that is shown; people who put a whole file on one line see a part of it.
const MAX_SHOWN: usize = 100;

/// The line of `text` that holds the start of `span`, with carets below the span.
///
/// ```text
///   --> Occlum.json:3:5
///    |
///  3 |     "resource_limit": {
///    |     ^^^^^^^^^^^^^^^^
/// ```
pub(crate) fn excerpt(file: &str, text: &str, span: Range<usize>) -> String {
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at += 1;
        }
        at
    };
    let start = boundary(span.start.min(text.len()));
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let number = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;

    let line = text[line_start..line_end].trim_end_matches('\r');
    let until = boundary(span.end.clamp(start, line_start + line.len().max(start - line_start)));
    let carets = text[start..until].chars().count().max(1);

    let skip =
        if column > MAX_SHOWN / 2 && line.chars().count() > MAX_SHOWN { column - MAX_SHOWN / 2 } else { 0 };
    let shown: String = line.chars().skip(skip).take(MAX_SHOWN).collect();
    // Tabs stay tabs below, so that the carets stand where they should whatever a tab's width is.
    let indent: String =
        line.chars().skip(skip).take(column - 1 - skip).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();

    let gutter = number.to_string();
    let blank = " ".repeat(gutter.len());
    let mut out = String::new();
    let _ = writeln!(out, "{blank} --> {file}:{number}:{column}");
    let _ = writeln!(out, "{blank}  |");
    let _ = writeln!(out, " {gutter} | {shown}");
    let _ = write!(out, "{blank}  | {indent}{}", "^".repeat(carets.min(MAX_SHOWN)));
    out
}

/// The candidate that `word` was most likely meant to be, if one is near enough.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let word = plain(word);
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (distance(&word, &plain(c)), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_points_at_the_span() {
        let text = "{\n    \"resource_limit\": {\n}";
        assert_eq!(
            excerpt("Occlum.json", text, 6..22),
            "  --> Occlum.json:2:5\n   |\n 2 |     \"resource_limit\": {\n   |     ^^^^^^^^^^^^^^^^"
        );
    }

    #[test]
    fn columns_count_characters_and_tabs_are_kept() {
        let shown = excerpt("f", "\t\"é\": x", 7..8);
        assert!(shown.contains("f:1:7"), "{shown}");
        assert!(shown.ends_with("| \t     ^"), "{shown}");
    }

    #[test]
    fn a_place_past_the_end_and_a_very_long_line_are_shown() {
        assert!(excerpt("f", "", 0..0).ends_with("| ^"));
        assert!(excerpt("f", "x\n", 2..9).contains("f:2:1"));
        let long = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt("f", &long, 500..501);
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].find('^').unwrap();
        assert_eq!(lines[2].as_bytes().get(caret), Some(&b'!'), "{shown}");
    }

    #[test]
    fn a_span_that_cuts_a_character_is_shown_whole() {
        assert!(excerpt("f", "aéb", 2..2).contains("f:1:3"));
        assert!(excerpt("f", "aéb", 1..2).ends_with("|  ^"));
    }

    #[test]
    fn near_words_are_guessed_and_far_ones_are_not() {
        let fields = ["resource_limits", "process", "entry_points", "env", "mount"];
        assert_eq!(did_you_mean("resource_limit", fields), Some("resource_limits"));
        assert_eq!(did_you_mean("entrypoints", fields), Some("entry_points"));
        assert_eq!(did_you_mean("entyr_points", fields), Some("entry_points"));
        assert_eq!(did_you_mean("mounts", fields), Some("mount"));
        assert_eq!(did_you_mean("colour", fields), None);
    }
}
