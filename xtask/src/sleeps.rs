//! Where a thread of the kernel may sleep.
//!
//! Everything that blocks in the kernel blocks through a `Waiter`: then a signal ends every wait, no wake-up is lost between the
//! look and the sleep, and who waits has given way to others that need its addresses. So nobody but the owner of the waiters
//! calls what makes a thread sleep in the host, or gives up the processor in a loop. [`ALLOWED`] is the list of those who may,
//! each with its reason; one that is not needed any more fails too.
//!
//! What the check knows of a call is the name of the method and of what it is called on: `ctx.park()` and `self.park()` are the
//! kernel's own, which end in the places that are listed.

use crate::unsafety::{code_only, is_word_char};
use crate::workspace;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Methods of the platform in which a thread sleeps, or gives up the processor.
const SLEEPING: [&str; 4] = ["park", "park_ready", "host_poll", "yield_now"];

/// Who has methods of these names that sleep through a waiter.
const OWN: [&str; 2] = ["ctx", "self"];

/// Crates that stand on the platform.
const FOLDERS: [&str; 4] = ["enclave/kbase/src", "enclave/vfs/src", "enclave/fs", "enclave/kernel/src"];

/// Who may, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("enclave/kbase/src/sync.rs", "yield_now", "the model checker's, not the platform's"),
    ("enclave/kernel/src/thread/wait.rs", "park", "`Ctx` calls the kernel's own"),
    ("enclave/kernel/src/net/inet/readiness.rs", "park", "what `Waiter::rest` is given to sleep in"),
    (
        "enclave/kernel/src/net/inet/readiness.rs",
        "park_ready",
        "the same, where the host tells of its sockets",
    ),
    (
        "enclave/kernel/src/net/inet/ringed/end.rs",
        "yield_now",
        "the host's Linux is at work: it ends operations. A thousand times at most",
    ),
    ("enclave/kernel/src/fs/wait.rs", "host_poll", "the same, where a file stands for a host descriptor"),
    ("enclave/kernel/src/syscall/sched.rs", "yield_now", "`sched_yield(2)`"),
    (
        "enclave/kernel/src/thread/barrier.rs",
        "yield_now",
        "`membarrier(2)`: others are on their way into the kernel",
    ),
    ("enclave/kernel/src/futex/pi.rs", "yield_now", "the other is at work: it hands over a lock, or ends"),
    (
        "enclave/kernel/src/fs/open_file.rs",
        "yield_now",
        "the other is at work: it copies at the position of the file",
    ),
    ("enclave/kernel/src/vm/window.rs", "yield_now", "the other is at work: it closes a window"),
];

/// Runs the check.
///
/// # Errors
///
/// When somebody sleeps who is not on the list, or somebody on the list does not.
pub(crate) fn run() -> Result<()> {
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        look_in(Path::new(folder), &mut found)?;
    }
    let offenders = judge(&found, ALLOWED);
    workspace::verdict("sleeps", &offenders)?;
    println!("sleeps: {} places, all of which may", found.len());
    Ok(())
}

/// A file and the method that it calls.
type Place = (String, String);

fn judge(found: &BTreeSet<Place>, allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let allowed: BTreeSet<Place> =
        allowed.iter().map(|&(file, name, _)| (file.to_owned(), name.to_owned())).collect();
    let not_allowed = found.difference(&allowed).map(|(file, name)| {
        format!(
            "{file} calls `{name}` of the platform: wait through `Ctx`, or say in xtask/src/sleeps.rs why not"
        )
    });
    let not_found = allowed
        .difference(found)
        .map(|(file, name)| format!("{file} does not call `{name}`: take it out of xtask/src/sleeps.rs"));
    not_allowed.chain(not_found).collect()
}

fn look_in(folder: &Path, found: &mut BTreeSet<Place>) -> Result<()> {
    let shown = folder.display().to_string();
    for entry in fs::read_dir(workspace::root().join(folder)).context(shown)? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        let full = workspace::root().join(&path);
        let is_test = ["tests", "tests.rs", "models.rs"].iter().any(|test| name == *test);
        if full.is_dir() && !is_test {
            look_in(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let source = fs::read_to_string(&full).with_context(|| path.display().to_string())?;
            let calls = calls(&source).into_iter();
            found.extend(calls.map(|name| (path.display().to_string(), name.to_owned())));
        }
    }
    Ok(())
}

/// The methods of the platform that a source calls, its tests aside.
fn calls(source: &str) -> BTreeSet<&'static str> {
    let code = code_only(source);
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let sleeps = |name: &str| code.match_indices(name).any(|(at, _)| is_sleep(code, at, name));
    SLEEPING.into_iter().filter(|name| sleeps(name)).collect()
}

/// Whether the word at a place is a call that sleeps.
fn is_sleep(code: &str, at: usize, name: &str) -> bool {
    let (before, after) = (&code[..at], &code[at + name.len()..]);
    let Some(arguments) = after.strip_prefix('(') else { return false };
    let receiver = match (before.strip_suffix('.'), before.strip_suffix("::")) {
        (Some(of_value), _) => last_word(of_value.trim_end()),
        (None, Some(of_type)) => last_word(of_type),
        (None, None) => return false,
    };
    let is_own = OWN.contains(&receiver) && name != "host_poll";
    // A look at what the host has does not sleep.
    let is_look =
        name == "host_poll" && arguments.split(')').next().is_some_and(|row| row.ends_with("Some(0"));
    !is_own && !is_look
}

/// The name that an expression ends in, without a call's `()`.
fn last_word(expression: &str) -> &str {
    let expression = expression.strip_suffix("()").unwrap_or(expression);
    let start = expression.rfind(|character| !is_word_char(character)).map_or(0, |at| at + 1);
    &expression[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<&'static str> {
        calls(source).into_iter().collect()
    }

    #[test]
    fn calls_of_the_platform_are_found() {
        assert_eq!(found("fn f(ctx: &Ctx<'_>) { ctx.platform().park(None); }"), ["park"]);
        assert_eq!(found("self.kernel\n    .platform()\n    .park_ready(until);"), ["park_ready"]);
        assert_eq!(found("platform.host_poll(&mut rows, Some(deadline))"), ["host_poll"]);
        assert_eq!(found("Threads::park(&*platform, None)"), ["park"]);
        assert_eq!(found("|| self.platform().yield_now()"), ["yield_now"]);
    }

    #[test]
    fn waits_of_the_kernel_looks_words_and_tests_are_not() {
        assert!(found("ctx.park(None)?; self.park(deadline); thread.unpark(); fn park(&self) {}").is_empty());
        assert!(found("platform.host_poll(&mut rows, Some(0))?; // platform.park(None)").is_empty());
        assert!(
            found("fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { platform.park(None); }\n}").is_empty()
        );
    }

    #[test]
    fn who_is_not_on_the_list_offends_and_so_does_who_is_and_need_not_be() {
        let found = BTreeSet::from([("a.rs".to_owned(), "park".to_owned())]);
        assert!(judge(&found, &[("a.rs", "park", "why")]).is_empty());
        assert_eq!(judge(&found, &[]).len(), 1);
        assert_eq!(judge(&found, &[("b.rs", "park", "why")]).len(), 2);
    }
}
