//! One module per verb.

pub(crate) mod build;
pub(crate) mod init;
pub(crate) mod package;
pub(crate) mod print;
pub(crate) mod run;
pub(crate) mod sign;
pub(crate) mod try_program;
