//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const STATUS: &str = "Exit status:
  0    done
  1    something you can mend: the message says what
  2    this machine or occlum itself failed
  run and try end with the status of the program, or 128 + the number of the signal that ended it.

Environment:
  OCCLUM_LOG_LEVEL    off, error, warn, info, debug or trace: what the LibOS says on stderr
  OCCLUM_CACHE_LIMIT  most space that `try` keeps packed programs in, such as 4GB
  SGX_MODE            HW or SIM: the SGX of this machine, or the software machine, which protects nothing
  NO_COLOR            no colours";

const EXAMPLES: &str = "Examples:
  occlum try python3 -c 'print(6 * 7)'       run a program of this machine in an enclave
  occlum try --strace ./server --port 8080   show the system calls it makes
  occlum new app && cd app                   make an instance: a folder with an image and a configuration
  cp /usr/bin/busybox image/bin/
  occlum build && occlum run /bin/busybox date";

/// Runs unmodified Linux programs in an SGX enclave.
#[derive(Debug, Parser)]
#[command(name = "occlum", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{STATUS}"), arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whether the command on this command line was one of older versions.
pub(crate) fn is_of_older_versions() -> bool {
    const OLDER: [&str; 6] = ["start", "exec", "stop", "mount", "gdb", "gen-image-key"];
    std::env::args().nth(1).is_some_and(|word| OLDER.contains(&word.as_str()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a folder and an instance in it
    #[command(after_help = "Example:\n  occlum new app")]
    New {
        /// The folder; it must not exist
        dir: PathBuf,
    },
    /// Make an instance in the current folder
    #[command(after_help = "Example:\n  mkdir app && cd app && occlum init")]
    Init,
    /// Pack, measure and sign the instance in the current folder
    #[command(after_help = "Examples:
  occlum build
  occlum build --sign-key author.pem
  occlum build --sign-out to-sign.bin      then, wherever the key is:
  openssl dgst -sha256 -sign author.pem -out sig.bin to-sign.bin
  occlum sign --attach sig.bin --public-key author.pub.pem")]
    Build(Build),
    /// Complete a `build --sign-out` with a signature that was made elsewhere
    #[command(after_help = "Example:\n  occlum sign --attach sig.bin --public-key author.pub.pem")]
    Sign(Sign),
    /// Run a program of the instance in the current folder
    #[command(after_help = "Examples:\n  occlum run /bin/busybox ls -l /\n  occlum run --strace /bin/hello")]
    Run(Run),
    /// Run a program of this machine in an enclave, without an instance
    #[command(after_help = TRY_HELP)]
    Try(Try),
    /// Print a measurement or the configuration
    #[command(after_help = "Examples:\n  occlum print mrenclave\n  occlum print config --json")]
    Print {
        /// What to print
        what: What,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Pack what is needed to run the instance elsewhere
    #[command(after_help = "Example:\n  occlum package app.tar.gz")]
    Package(Package),
    /// Print the state of the instance: initialized or built
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Package {
    /// The archive; default: the name of the folder and .tar.gz
    pub(crate) archive: Option<PathBuf>,
    /// Also where the enclave is a debug enclave, which protects nothing
    #[arg(long)]
    pub(crate) debug: bool,
}

const TRY_HELP: &str = "The program's interpreter, libraries and the library folders of Python, Perl and the like are found, \
packed and measured. The current folder is visible at the same path, read-only, through hostfs: the host \
can change it at any time, so nothing in it is protected. Flags go before PROGRAM; all that follows is the program's.

Examples:
  occlum try ls -l
  occlum try python3 script.py
  occlum try --mount .:/data:rw sh -c 'ls > /data/list'
  occlum try --with /usr/share/dict grep -c . /usr/share/dict/words
  occlum try --stats ./benchmark";

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The author's private key: RSA-3072 with exponent 3 in PEM; default: your own, made when first needed
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Write the bytes to be signed to FILE and do not sign
    #[arg(long, value_name = "FILE", conflicts_with = "sign_key")]
    pub(crate) sign_out: Option<PathBuf>,
    /// Build all of it again
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Print the measurements as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Of older versions: HW and SIM builds are the same
    #[arg(long, hide = true)]
    pub(crate) sgx_mode: Option<String>,
    /// Of older versions
    #[arg(long, hide = true)]
    pub(crate) enable_edmm: Option<String>,
    /// Of older versions
    #[arg(long, hide = true)]
    pub(crate) sign_tool: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The signature: RSASSA-PKCS1-v1_5 with SHA-256 of what `build --sign-out` wrote, 384 bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: PathBuf,
    /// The author's public key in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: PathBuf,
    /// Print the measurements as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `run` and `try` show besides the program's own output.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Show {
    /// Print the program's system calls on stderr
    #[arg(long)]
    pub(crate) strace: bool,
    /// Print counts at the end on stderr: system calls, rewritten and trapped sites, enclave exits, page faults
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) show: Show,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM ARGS")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Try {
    #[command(flatten)]
    pub(crate) show: Show,
    /// Show a folder of the host at GUEST, read-only unless it ends with `:rw` [repeatable]
    #[arg(long, value_name = "HOST:GUEST[:rw]")]
    pub(crate) mount: Vec<OsString>,
    /// Pack this file, folder or program of PATH too [repeatable]
    #[arg(long, value_name = "PATH")]
    pub(crate) with: Vec<PathBuf>,
    /// Share a ring of operations with the host's Linux: TCP without exits, for a processor that is always busy
    #[arg(long)]
    pub(crate) io_uring: bool,
    /// The author's private key in PEM; default: your own, made when first needed
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Most memory of the program and its children, such as 2GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM ARGS")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The measurement of the enclave
    Mrenclave,
    /// The hash of the author's key
    Mrsigner,
    /// The configuration that is measured
    Config,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_after_the_program_are_the_programs() {
        let Command::Try(args) = parse("occlum try --strace --mount /a:/b ls --stats -l --mount").unwrap()
        else {
            panic!("not try")
        };
        assert!(args.show.strace && !args.show.stats);
        assert_eq!(args.mount, ["/a:/b"]);
        assert_eq!(args.program, ["ls", "--stats", "-l", "--mount"]);
    }

    #[test]
    fn a_double_dash_after_the_program_is_kept() {
        let Command::Run(args) = parse("occlum run /bin/x -- --strace").unwrap() else { panic!("not run") };
        assert_eq!(args.program, ["/bin/x", "--", "--strace"]);
        assert!(!args.show.strace);
    }

    #[test]
    fn a_missing_program_and_an_unknown_command_are_errors() {
        assert!(parse("occlum try --stats").is_err());
        assert!(parse("occlum biuld").unwrap_err().to_string().contains("'build'"));
        assert!(parse("occlum build --sign-key a --sign-out b").is_err());
    }

    #[test]
    fn help_fits_the_screen_and_has_examples() {
        let help = Cli::command().render_help().to_string();
        assert!(help.lines().count() <= 50, "{help}");
        for name in ["new", "init", "build", "sign", "run", "try", "print"] {
            let mut command = Cli::command();
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            assert!(help.contains("Example"), "{name}");
        }
    }
}
