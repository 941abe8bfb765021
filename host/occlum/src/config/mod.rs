//! Occlum.json.
//!
//! The fields are those of the older format, taken as they are. Whoever leaves a limit out gets a large one:
//! memory and threads are added on demand, so a limit costs nothing until it is used. What no longer means
//! anything is accepted with a note, what never meant anything is an error.

pub(crate) mod diagnostic;
pub(crate) mod json;
mod network;
pub(crate) mod reader;
pub(crate) mod size;

use crate::error::{Context, Error, Result};
use boot_config::network::Network;
use reader::{Findings, Object, Obsolete};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

/// A configuration that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) limits: Limits,
    pub(crate) process: Process,
    /// Paths below which programs may be started. Absolute and without `..`.
    pub(crate) entry_points: Vec<String>,
    pub(crate) env: Env,
    pub(crate) metadata: Metadata,
    /// Which loopback ports are shared with the host.
    pub(crate) network: Network,
    /// Whether data of the host's streams go through a ring of operations that is shared with the host's Linux.
    pub(crate) io_uring: bool,
    pub(crate) mounts: Vec<Mount>,
    /// What was accepted but has no effect.
    pub(crate) obsolete: Vec<Obsolete>,
}

/// Most that an enclave may use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Bytes of memory of all programs together.
    pub(crate) user_space: u64,
    /// Bytes of the LibOS's heap, page cache included.
    pub(crate) kernel_heap: u64,
    /// Threads of all programs together.
    pub(crate) threads: u32,
}

/// What a program starts with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    /// RLIMIT_STACK in bytes.
    pub(crate) stack: u64,
    /// RLIMIT_DATA in bytes.
    pub(crate) heap: u64,
}

/// The environment of programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Env {
    /// `NAME=value`, trusted.
    pub(crate) default: Vec<String>,
    /// Names that the untrusted host may set.
    pub(crate) untrusted: Vec<String>,
}

/// What is written into SIGSTRUCT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metadata {
    /// ISVPRODID.
    pub(crate) product_id: u16,
    /// ISVSVN.
    pub(crate) version_number: u16,
    /// Whether ATTRIBUTES.DEBUG is set.
    pub(crate) debuggable: bool,
    /// Whether the enclave logs nothing at all.
    pub(crate) disable_log: bool,
    /// Key separation and sharing: ATTRIBUTES.KSS.
    pub(crate) kss: bool,
    /// ISVFAMILYID.
    pub(crate) family_id: [u8; 16],
    /// ISVEXTPRODID.
    pub(crate) ext_prod_id: [u8; 16],
}

/// A file system and where it is mounted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) target: String,
    pub(crate) kind: MountKind,
}

/// The kinds of file systems.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MountKind {
    /// The packed image below a writable layer.
    Root {
        /// Folder of the host that is packed.
        image: String,
        /// Folder of the host that keeps what is written.
        writable: String,
    },
    /// Memory.
    Ram,
    /// A folder of the host as it is: untrusted.
    Host {
        /// The folder.
        source: String,
        /// Whether programs may write to it.
        is_writable: bool,
        /// Whether programs may connect to the host's sockets in it.
        sockets: bool,
    },
    /// procfs.
    Proc,
    /// devfs.
    Dev,
}

const DEFAULT_USER_SPACE: u64 = 16 << 30;
const DEFAULT_KERNEL_HEAP: u64 = 4 << 30;
/// As many as the enclave's address space has slots for.
const MAX_THREADS: u64 = edge_abi::layout::MAX_THREADS - edge_abi::layout::SPARE_THREADS;
const MAX_USER_SPACE: u64 = edge_abi::layout::USER_END - edge_abi::layout::USER_BASE;
const MAX_KERNEL_HEAP: u64 = edge_abi::layout::HEAP_END - edge_abi::layout::HEAP_BASE;
/// Below this the page cache cannot do its work.
const MIN_KERNEL_HEAP: u64 = 1 << 30;
/// What `feature.io_uring` may be at most.
const MOST_RINGS: u64 = 16;
const DEFAULT_STACK: u64 = 8 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits {
                user_space: DEFAULT_USER_SPACE,
                kernel_heap: DEFAULT_KERNEL_HEAP,
                threads: MAX_THREADS as u32,
            },
            process: Process { stack: DEFAULT_STACK, heap: DEFAULT_USER_SPACE },
            entry_points: vec!["/".into()],
            env: Env::default(),
            metadata: Metadata {
                product_id: 0,
                version_number: 0,
                debuggable: true,
                disable_log: false,
                kss: false,
                family_id: [0; 16],
                ext_prod_id: [0; 16],
            },
            network: Network::default(),
            io_uring: false,
            mounts: default_mounts(),
            obsolete: Vec::new(),
        }
    }
}

fn default_mounts() -> Vec<Mount> {
    vec![
        Mount {
            target: "/".into(),
            kind: MountKind::Root { image: "./image".into(), writable: "./run/mount/__ROOT".into() },
        },
        Mount { target: "/tmp".into(), kind: MountKind::Ram },
    ]
}

/// What `occlum init` writes: nothing in it needs to be touched to run a program.
pub(crate) const TEMPLATE: &str = r#"{
    "resource_limits": {
        "user_space_max_size": "16GB",
        "kernel_space_heap_max_size": "4GB",
        "max_num_of_threads": 1024
    },
    "process": {
        "default_stack_size": "8MB"
    },
    "entry_points": [
        "/bin",
        "/usr/bin"
    ],
    "env": {
        "default": [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/root",
            "OCCLUM=yes"
        ],
        "untrusted": [
            "TERM",
            "LANG"
        ]
    },
    "metadata": {
        "product_id": 0,
        "version_number": 0,
        "debuggable": true
    },
    "mount": [
        {
            "target": "/",
            "type": "unionfs",
            "options": {
                "layers": [
                    { "target": "/", "type": "sefs", "source": "./image" },
                    { "target": "/", "type": "sefs", "source": "./run/mount/__ROOT" }
                ]
            }
        },
        {
            "target": "/tmp",
            "type": "ramfs"
        }
    ]
}
"#;

/// Reads the Occlum.json at `path`.
pub(crate) fn load(path: &Path) -> Result<Config> {
    let bytes = std::fs::read(path).user(|| format!("cannot read `{}`", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::user(format!("`{}` is not text in UTF-8", path.display())).because(&e))?;
    parse(&path.display().to_string(), &text)
}

/// Reads `text`, which messages call `file`.
pub(crate) fn parse(file: &str, text: &str) -> Result<Config> {
    let root = json::parse(text).map_err(|e| {
        let shown = diagnostic::excerpt(file, text, e.span);
        let error = Error::user(format!("syntax error: {}", e.message)).excerpt(shown);
        match e.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    let findings = Findings::default();
    let mut config = read(&root, &findings);
    let mistakes = findings.mistakes.into_inner();
    if mistakes.is_empty() {
        config.obsolete = findings.notes.into_inner();
        return Ok(config);
    }
    Err(report(file, text, &mistakes))
}

/// One error out of all mistakes, in the order of the file.
fn report(file: &str, text: &str, mistakes: &[reader::Mistake]) -> Error {
    let mut sorted: Vec<&reader::Mistake> = mistakes.iter().collect();
    sorted.sort_by_key(|m| m.span.start);
    let mut excerpt = String::new();
    if let [only] = sorted.as_slice() {
        let error = Error::user(&only.message).excerpt(diagnostic::excerpt(file, text, only.span.clone()));
        return match &only.hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
    }
    for mistake in &sorted {
        let _ = writeln!(excerpt, "\n{}", mistake.message);
        let _ = writeln!(excerpt, "{}", diagnostic::excerpt(file, text, mistake.span.clone()));
        if let Some(hint) = &mistake.hint {
            let _ = writeln!(excerpt, "   = hint: {hint}");
        }
    }
    Error::user(format!("{} mistakes in `{file}`", sorted.len())).excerpt(excerpt)
}

fn read(root: &json::Node, findings: &Findings) -> Config {
    let mut config = Config::default();
    let mut top = Object::new(root, "", findings);
    let feature = top.object("feature");
    let grows = feature.is_some_and(|object| read_feature(object, &mut config.io_uring));
    if let Some(object) = top.object("resource_limits") {
        read_limits(object, &mut config.limits, grows, findings);
    }
    config.process.heap = config.limits.user_space;
    if let Some(object) = top.object("process") {
        read_process(object, &mut config.process, config.limits.user_space);
    }
    if let Some(paths) = top.strings("entry_points") {
        config.entry_points = paths.iter().map(|(path, span)| absolute(path, span, findings)).collect();
    }
    if let Some(object) = top.object("env") {
        config.env = read_env(object, findings);
    }
    if let Some(object) = top.object("metadata") {
        read_metadata(object, &mut config.metadata);
    }
    if let Some(object) = top.object("network") {
        config.network = network::read(object, findings);
    }
    if let Some(mounts) = top.list("mount") {
        config.mounts =
            mounts.iter().enumerate().filter_map(|(i, node)| read_mount(node, i, findings)).collect();
    }
    top.finish();
    config
}

/// Whether `user_space_size` is where memory starts and not where it ends.
fn read_feature(mut object: Object<'_>, io_uring: &mut bool) -> bool {
    let grows = object.boolean("enable_edmm").unwrap_or(false);
    // It was a number of rings. There is one.
    *io_uring = object.switch("io_uring", MOST_RINGS);
    object.obsolete("amx", "AMX state is not part of the enclave's XFRM");
    object.obsolete("pkru", "the LibOS does not depend on protection keys");
    object.obsolete("enable_posix_shm", "shared mappings are always there");
    object.finish();
    grows
}

fn read_limits(mut object: Object<'_>, limits: &mut Limits, grows: bool, findings: &Findings) {
    let heap = object.size("kernel_space_heap_size");
    let heap_max = object.size("kernel_space_heap_max_size");
    if let Some(heap) = heap_max.or(heap) {
        limits.kernel_heap = heap.clamp(MIN_KERNEL_HEAP, MAX_KERNEL_HEAP);
    }
    object.obsolete("kernel_space_stack_size", "the LibOS's stacks have a fixed size");
    object.obsolete("marshal_buffer_size", "host calls need no such buffer");
    object.obsolete("init_num_of_threads", "threads are added on demand");

    let size = object.size("user_space_size");
    let size_place = object.node("user_space_size");
    let max = object.size("user_space_max_size");
    let max_place = object.node("user_space_max_size");
    let bytes = match (size, max) {
        (_, Some(max)) => Some(max),
        (Some(size), None) if grows => Some(size.max(DEFAULT_USER_SPACE)),
        (size, None) => size,
    };
    if let Some(bytes) = bytes {
        let place = max_place.or(size_place).map_or(0..0, |node| node.span.clone());
        if bytes > MAX_USER_SPACE {
            let most = size::display(MAX_USER_SPACE >> 30 << 30);
            findings.mistake(&place, format!("an enclave has room for {most} of user memory"), None);
        } else if bytes < 1 << 20 {
            findings.mistake(&place, "no program fits into less than 1MB", Some(size::HINT.to_owned()));
        }
        limits.user_space = bytes;
    }

    // Older versions raised the limit by themselves where threads are added on demand.
    let place = object.node("max_num_of_threads").map(|node| node.span.clone());
    if let Some(threads) = object.number("max_num_of_threads", u64::from(u32::MAX)) {
        if threads == 0 {
            findings.mistake(&place.unwrap_or(0..0), "a program has at least one thread", None);
        }
        let threads = if grows { MAX_THREADS } else { threads.clamp(1, MAX_THREADS) };
        limits.threads = threads as u32;
    }
    object.finish();
}

fn read_process(mut object: Object<'_>, process: &mut Process, user_space: u64) {
    if let Some(stack) = object.size("default_stack_size") {
        process.stack = stack.max(128 << 10).min(user_space);
    }
    // The older system set memory aside for it, which made people choose it small; here it is a limit only.
    if object.size("default_heap_size").is_some() {
        object.obsolete("default_heap_size", "the heap of a process may grow to what is left of user memory");
    }
    object.obsolete("default_mmap_size", "mappings may grow to what is left of user memory");
    object.finish();
}

fn read_env(mut object: Object<'_>, findings: &Findings) -> Env {
    let mut env = Env::default();
    for (variable, span) in object.strings("default").unwrap_or_default() {
        if !variable.contains('=') || variable.starts_with('=') {
            let hint = Some("write NAME=value, or list the name under `env.untrusted`".to_owned());
            findings.mistake(&span, "not an environment variable", hint);
        }
        env.default.push(variable);
    }
    for (name, span) in object.strings("untrusted").unwrap_or_default() {
        if name.is_empty() || name.contains('=') {
            let hint = Some("list the name alone: its value is the host's".to_owned());
            findings.mistake(&span, "not the name of an environment variable", hint);
        }
        env.untrusted.push(name);
    }
    object.finish();
    env
}

fn read_metadata(mut object: Object<'_>, metadata: &mut Metadata) {
    let short = u64::from(u16::MAX);
    metadata.product_id = object.number("product_id", short).unwrap_or(0) as u16;
    metadata.version_number = object.number("version_number", short).unwrap_or(0) as u16;
    metadata.debuggable = object.boolean("debuggable").unwrap_or(true);
    metadata.disable_log = object.boolean("disable_log").unwrap_or(!metadata.debuggable);
    metadata.kss = object.boolean("enable_kss").unwrap_or(false);
    metadata.family_id = read_id(object.object("family_id"));
    metadata.ext_prod_id = read_id(object.object("ext_prod_id"));
    object.finish();
}

/// The 128-bit identifiers of KSS, given in two halves.
fn read_id(object: Option<Object<'_>>) -> [u8; 16] {
    let Some(mut object) = object else { return [0; 16] };
    let low = object.number("low", u64::MAX).unwrap_or(0);
    let high = object.number("high", u64::MAX).unwrap_or(0);
    object.finish();
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

const MOUNT_TYPES: [&str; 6] = ["unionfs", "sefs", "hostfs", "ramfs", "procfs", "devfs"];

fn read_mount(node: &json::Node, index: usize, findings: &Findings) -> Option<Mount> {
    let path = format!("mount[{index}]");
    let mut object = Object::new(node, &path, findings);
    let target = object.string("target");
    let kind = object.string("type");
    let source = object.string("source");
    let mut options = object.object("options");
    object.finish();

    let Some((target, target_span)) = target else {
        findings.mistake(&node.span, format!("`{path}` has no `target`"), None);
        return None;
    };
    let target = absolute(&target, &target_span, findings);
    let Some((kind, kind_span)) = kind else {
        findings.mistake(&node.span, format!("`{path}` has no `type`"), None);
        return None;
    };
    let kind = match kind.as_str() {
        "unionfs" => read_union(options.as_mut(), &path, node, findings),
        "sefs" if target == "/" => {
            let hint = Some("mount a `unionfs` with the image and a writable layer".to_owned());
            findings.mistake(&kind_span, "`/` is a `unionfs`", hint);
            None
        }
        "hostfs" => {
            if source.is_none() {
                findings.mistake(&node.span, format!("`{path}` has no `source`"), None);
            }
            let is_writable = !options.as_mut().and_then(|o| o.boolean("read_only")).unwrap_or(false);
            let sockets = options.as_mut().and_then(|o| o.boolean("sockets")).unwrap_or(false);
            source.map(|(source, _)| MountKind::Host { source, is_writable, sockets })
        }
        "ramfs" => Some(MountKind::Ram),
        "procfs" => Some(MountKind::Proc),
        "devfs" => Some(MountKind::Dev),
        "sefs" | "ext2" => {
            findings.mistake(&kind_span, format!("`{kind}` cannot be mounted by itself yet"), None);
            None
        }
        _ => {
            let hint = match diagnostic::did_you_mean(&kind, MOUNT_TYPES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the types are {}", MOUNT_TYPES.join(", ")),
            };
            findings.mistake(&kind_span, format!("unknown file system `{kind}`"), Some(hint));
            None
        }
    };
    if let Some(options) = options {
        options.finish();
    }
    Some(Mount { target, kind: kind? })
}

fn read_union(
    options: Option<&mut Object<'_>>,
    path: &str,
    node: &json::Node,
    findings: &Findings,
) -> Option<MountKind> {
    let layers = options.and_then(|o| o.list("layers")).unwrap_or_default();
    let [image, writable] = layers else {
        let hint = Some("the first is the image, the second keeps what is written".to_owned());
        findings.mistake(&node.span, format!("`{path}.options.layers` has two layers"), hint);
        return None;
    };
    let mut sources = [image, writable].into_iter().enumerate().map(|(i, layer)| {
        let mut object = Object::new(layer, &format!("{path}.options.layers[{i}]"), findings);
        object.string("target");
        object.string("type");
        let source = object.string("source").map(|(source, _)| source);
        if let Some(mut options) = object.object("options") {
            options.obsolete("MAC", "the root hash of the image is measured");
            options.obsolete("temporary", "the layer is part of the volume");
            options.obsolete("cache_size", "the page cache grows and shrinks by itself");
            options.finish();
        }
        object.finish();
        if source.is_none() {
            findings.mistake(&layer.span, "this layer has no `source`", None);
        }
        source
    });
    Some(MountKind::Root { image: sources.next()??, writable: sources.next()?? })
}

/// `path` without a slash at its end, if it is absolute and stays where it says.
fn absolute(path: &str, span: &Range<usize>, findings: &Findings) -> String {
    if !path.starts_with('/') {
        let hint = Some(format!("write `/{path}`"));
        findings.mistake(span, format!("`{path}` is not an absolute path"), hint);
    } else if path.split('/').any(|part| part == "..") {
        findings.mistake(span, format!("`{path}` contains `..`"), None);
    }
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
