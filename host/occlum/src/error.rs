//! What the command says when it cannot go on.
//!
//! An [`Error`] is written for the person who reads it: one line of what failed, the causes below it, and a
//! hint that says what to do. Whose fault it was decides the exit status.

use std::fmt::{self, Display};

/// Whose move it is after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The user can mend it: exit status 1.
    User,
    /// The machine, the host system or this program failed: exit status 2.
    Machine,
}

/// A failure of the command.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    excerpt: Option<String>,
    causes: Vec<String>,
    hint: Option<String>,
    blame: Blame,
}

/// The result of everything in this program that can fail.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that the user can mend.
    pub(crate) fn user(message: impl Display) -> Self {
        Self::new(message, Blame::User)
    }

    /// A failure of the machine or of this program.
    pub(crate) fn machine(message: impl Display) -> Self {
        Self::new(message, Blame::Machine)
    }

    fn new(message: impl Display, blame: Blame) -> Self {
        Self { message: message.to_string(), excerpt: None, causes: Vec::new(), hint: None, blame }
    }

    /// Adds `cause` and all that lies behind it.
    pub(crate) fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Shows the place in a source text.
    pub(crate) fn excerpt(mut self, excerpt: impl Display) -> Self {
        self.excerpt = Some(excerpt.to_string());
        self
    }

    /// Puts `message` on top of what is there, which becomes the first cause.
    pub(crate) fn wrap(mut self, message: impl Display) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, message.to_string()));
        self
    }

    /// The exit status of a command that ends with this error.
    pub(crate) fn exit_status(&self) -> u8 {
        match self.blame {
            Blame::User => 1,
            Blame::Machine => 2,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{}", excerpt.trim_end())?;
        }
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns the errors of libraries into [`Error`]s that say what was being done.
pub(crate) trait Context<T> {
    /// The user can mend it.
    fn user<M: Display>(self, message: impl FnOnce() -> M) -> Result<T>;
    /// The machine or this program failed.
    fn machine<M: Display>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn user<M: Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| Error::user(message()).because(&e))
    }

    fn machine<M: Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| Error::machine(message()).because(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_causes_and_a_hint_after_a_blank_line() {
        let io = std::io::Error::from_raw_os_error(2);
        let e = Error::user("cannot read `/nope`").because(&io).hint("run `occlum init` there first");
        assert_eq!(
            e.to_string(),
            "cannot read `/nope`\n  caused by: No such file or directory (os error 2)\n\n\
             hint: run `occlum init` there first"
        );
        assert_eq!(e.exit_status(), 1);
    }

    #[test]
    fn wrapping_pushes_the_old_message_down_the_chain() {
        let e = Error::machine("inner").wrap("outer");
        assert_eq!(e.to_string(), "outer\n  caused by: inner");
        assert_eq!(e.exit_status(), 2);
    }
}
