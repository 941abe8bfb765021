//! The only module that writes to stdout and stderr.
//!
//! Data goes to stdout, everything else to stderr. Progress is shown on a terminal only. A reader that closed
//! stdout early (`occlum print config | head -1`) ends the command in silence.

use crate::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Writes a line of data to stdout.
pub(crate) fn data(line: impl Display) {
    let mut out = io::stdout().lock();
    if let Err(e) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        let broken_pipe = e.kind() == io::ErrorKind::BrokenPipe;
        std::process::exit(if broken_pipe { 0 } else { 2 });
    }
}

/// Writes an error to stderr.
pub(crate) fn error(e: &Error) {
    say(&format!("{} {e}", label("error:", "1;31")));
}

/// Writes a warning to stderr.
pub(crate) fn warning(text: impl Display) {
    say(&format!("{} {text}", label("warning:", "1;33")));
}

/// Writes a remark to stderr.
pub(crate) fn note(text: impl Display) {
    say(&format!("{} {text}", label("note:", "1;36")));
}

/// Writes a line to stderr as it is.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn label(word: &str, colour: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if plain || !io::stderr().is_terminal() {
        return word.to_owned();
    }
    format!("\x1b[{colour}m{word}\x1b[0m")
}

/// A line on the terminal that says what takes so long; it is gone when the work is done.
pub(crate) struct Progress {
    verb: &'static str,
    started: Instant,
    drawn: Option<Instant>,
    enabled: bool,
}

/// Work that is over sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(200);
const REDRAW: Duration = Duration::from_millis(80);

impl Progress {
    /// Starts to watch over work that `verb` names, such as "packing".
    pub(crate) fn start(verb: &'static str) -> Self {
        Self { verb, started: Instant::now(), drawn: None, enabled: io::stderr().is_terminal() }
    }

    /// Shows `what` is being worked on.
    pub(crate) fn step(&mut self, what: impl Display) {
        if !self.enabled || self.started.elapsed() < PATIENCE {
            return;
        }
        if self.drawn.is_some_and(|at| at.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let line: String = format!("{:>10} {what}", self.verb).chars().take(78).collect();
        let _ = write!(io::stderr().lock(), "\r\x1b[2K{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
