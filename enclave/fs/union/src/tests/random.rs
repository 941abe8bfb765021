//! The same random operations on a union and on a plain tmpfs that started with the same content have the same results.

use super::tree::tree;
use super::*;
use vfs::SetAttributes;

const OPERATIONS: usize = 1500;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// A directory as a path, and a name.
    fn path(&mut self) -> (String, &'static str) {
        let depth = self.below(3);
        let parents: Vec<&str> = (0..depth).map(|_| NAMES[self.below(NAMES.len())]).collect();
        (parents.join("/"), NAMES[self.below(NAMES.len())])
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.below(6000);
        let byte = self.next().to_le_bytes()[0];
        (0..len).map(|index| byte.wrapping_add(index.to_le_bytes()[0])).collect()
    }
}

fn populate(directory: &Arc<dyn Directory>, random: &mut Random, depth: usize) {
    for text in NAMES {
        match random.below(if depth < 3 { 10 } else { 5 }) {
            0 | 1 => drop(file(directory, text, &random.bytes())),
            2 => drop(directory.create(name(text), Create::Symlink(text.as_bytes()), 0o777, 0).unwrap()),
            3 => {
                let fifo = Create::Special(vfs::FileType::Fifo);
                drop(directory.create(name(text), fifo, 0o640, 0).unwrap());
            }
            // Nearly empty directories, so that some are removed whole.
            4..8 if depth > 0 => {}
            4 => {}
            _ => populate(&folder(directory, text), random, depth + 1),
        }
    }
}

/// The same thing on both sides.
struct Pair<T>(T, T);

fn both<T>(
    roots: &Pair<Arc<dyn Directory>>,
    act: impl Fn(&Arc<dyn Directory>) -> kbase::Result<T>,
) -> Option<Pair<T>> {
    match (act(&roots.0), act(&roots.1)) {
        (Ok(a), Ok(b)) => Some(Pair(a, b)),
        (Err(a), Err(b)) => {
            assert_eq!(a.errno(), b.errno());
            None
        }
        (a, b) => panic!("plain: {:?}, union: {:?}", a.err().map(|e| e.errno()), b.err().map(|e| e.errno())),
    }
}

fn directory_at(root: &Arc<dyn Directory>, path: &str) -> kbase::Result<Arc<dyn Directory>> {
    Ok(Arc::clone(at(root, path)?.as_directory()?))
}

#[derive(Default, Debug)]
struct Counts {
    succeeded: usize,
    directories_moved: usize,
    crossing: usize,
}

fn step(
    random: &mut Random,
    roots: &Pair<Arc<dyn Directory>>,
    open: &mut Vec<Pair<Arc<dyn Regular>>>,
    counts: &mut Counts,
) {
    let (parent, text) = random.path();
    let target = name(text);
    let inside = |act: &dyn Fn(&Arc<dyn Directory>) -> kbase::Result<()>| {
        both(roots, |root| act(&directory_at(root, &parent)?)).is_some()
    };
    let done = match random.below(16) {
        0 => inside(&|d| d.create(target, Create::Regular, 0o644, 0).map(drop)),
        1 | 2 => inside(&|d| d.create(target, Create::Directory, 0o755, 0).map(drop)),
        3 => inside(&|d| d.create(target, Create::Symlink(b"to"), 0o777, 0).map(drop)),
        4 | 5 => inside(&|d| d.unlink(target, false)),
        6 | 7 => inside(&|d| d.unlink(target, true)),
        8 | 9 => rename(random, roots, &parent, target, counts),
        10 => {
            let (to, to_name) = random.path();
            let linked = both(roots, |root| {
                let node = directory_at(root, &parent)?.lookup(target)?;
                directory_at(root, &to)?.link(name(to_name), &node)
            });
            linked.is_some()
        }
        11 => {
            let change =
                SetAttributes { mode: Some(0o600 | random.below(0o100) as u32), ..SetAttributes::default() };
            inside(&|d| d.lookup(target)?.inode().set_attributes(&change))
        }
        12 => {
            let opened = both(roots, |root| match directory_at(root, &parent)?.lookup(target)? {
                Node::Regular(file) => Ok(file),
                _ => directory_at(root, &parent)?.create_unnamed(0o600, 0).map(|node| match node {
                    Node::Regular(file) => file,
                    _ => panic!("unnamed files are regular"),
                }),
            });
            let is_open = opened.is_some();
            open.extend(opened);
            if open.len() > 8 {
                open.remove(random.below(8));
            }
            is_open
        }
        _ => change_open(random, open),
    };
    counts.succeeded += usize::from(done);
}

fn rename(
    random: &mut Random,
    roots: &Pair<Arc<dyn Directory>>,
    parent: &str,
    from: Name<'_>,
    counts: &mut Counts,
) -> bool {
    let (to, to_name) = random.path();
    let no_replace = random.below(4) == 0;
    let act = |root: &Arc<dyn Directory>| {
        let to = directory_at(root, &to)?;
        directory_at(root, parent)?.rename(from, &to, name(to_name), no_replace)
    };
    let of_union = act(&roots.1);
    if of_union.as_ref().is_err_and(|error| error.errno() == Errno::EXDEV) {
        counts.crossing += 1;
        return false;
    }
    let is_directory = at(&roots.0, &format!("{parent}/{}", str::from_utf8(from.as_bytes()).unwrap()))
        .is_ok_and(|node| matches!(node, Node::Directory(_)));
    match (act(&roots.0), of_union) {
        (Ok(()), Ok(())) => {
            counts.directories_moved += usize::from(is_directory);
            true
        }
        // Which of several reasons comes first may differ.
        (Err(a), Err(b)) => {
            assert!(a.errno() == b.errno() || is_directory, "{:?} {:?}", a.errno(), b.errno());
            false
        }
        (a, b) => panic!("plain: {:?}, union: {:?}", a.err().map(|e| e.errno()), b.err().map(|e| e.errno())),
    }
}

fn change_open(random: &mut Random, open: &[Pair<Arc<dyn Regular>>]) -> bool {
    if open.is_empty() {
        return false;
    }
    let files = &open[random.below(open.len())];
    let offset = random.below(16_000) as u64;
    match random.below(5) {
        0 => {
            files.0.truncate(offset).unwrap();
            files.1.truncate(offset).unwrap();
        }
        1 => {
            let bytes = random.bytes();
            let a = files.0.append(&mut SliceSource::new(&bytes)).unwrap();
            assert_eq!(a, files.1.append(&mut SliceSource::new(&bytes)).unwrap());
        }
        2 => {
            let len = random.below(9000) as u64;
            files.0.deallocate(offset, len).unwrap();
            files.1.deallocate(offset, len).unwrap();
        }
        _ => {
            let bytes = random.bytes();
            let a = write(&*files.0, offset, &bytes).unwrap();
            assert_eq!(a, write(&*files.1, offset, &bytes).unwrap());
        }
    }
    assert_eq!(content(&*files.0), content(&*files.1));
    assert_eq!(files.0.metadata().unwrap().nlink, files.1.metadata().unwrap().nlink);
    assert_eq!(files.0.page(1).unwrap(), files.1.page(1).unwrap());
    true
}

fn run(seed: u64, counts: &mut Counts) {
    let limit = 256 << 20;
    let (plain, lower, upper) = (memory(limit), memory(limit), memory(limit));
    populate(&plain.root(), &mut Random(seed), 0);
    populate(&lower.root(), &mut Random(seed), 0);
    let before = tree(&lower.root(), 100);
    let mut roots = Pair(plain.root(), union(&lower, &upper).root());
    let mut random = Random(seed ^ 0xabcd);
    let mut open = Vec::new();
    for index in 0..OPERATIONS {
        step(&mut random, &roots, &mut open, counts);
        if index % 100 == 99 {
            if random.below(2) == 0 {
                // As after a restart with the same layers.
                open.clear();
                roots.1 = union(&lower, &upper).root();
            }
            let part = 1 + random.below(5);
            assert_eq!(tree(&roots.0, part), tree(&roots.1, part), "after {index} operations");
        }
    }
    open.clear();
    assert_eq!(tree(&roots.0, 7), tree(&roots.1, 7));
    assert_eq!(tree(&lower.root(), 100), before, "the lower changed");
}

#[test]
fn random_operations_have_the_same_results_as_on_one_file_system() {
    let mut counts = Counts::default();
    for seed in 0..24 {
        println!("seed {seed}");
        run(seed, &mut counts);
    }
    // The test is worth something only while these things happen.
    assert!(counts.succeeded > 8000 && counts.directories_moved > 50 && counts.crossing > 50, "{counts:?}");
}

/// One change without knowing what is there.
fn blind_step(random: &mut Random, root: &Arc<dyn Directory>) -> kbase::Result<()> {
    let (parent, text) = random.path();
    let directory = directory_at(root, &parent)?;
    let target = name(text);
    match random.below(8) {
        0 => directory.create(target, Create::Regular, 0o644, 0).map(drop),
        1 => directory.create(target, Create::Directory, 0o755, 0).map(drop),
        2 => directory.unlink(target, false),
        3 => directory.unlink(target, true),
        4 | 5 => {
            let (to, to_name) = random.path();
            directory.rename(target, &directory_at(root, &to)?, name(to_name), false)
        }
        6 => {
            let (to, to_name) = random.path();
            let node = directory.lookup(target)?;
            directory_at(root, &to)?.link(name(to_name), &node)
        }
        _ => match directory.lookup(target)? {
            Node::Regular(file) => write(&*file, 0, &random.bytes()).map(drop),
            node => {
                node.inode().set_attributes(&SetAttributes { mode: Some(0o700), ..SetAttributes::default() })
            }
        },
    }
}

#[test]
fn what_many_threads_leave_is_what_is_there_after_mounting_again() {
    for seed in 0..8 {
        let (lower, upper) = (memory(256 << 20), memory(256 << 20));
        populate(&lower.root(), &mut Random(seed), 0);
        let root = union(&lower, &upper).root();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let root = &root;
                scope.spawn(move || {
                    let mut random = Random(seed << 8 | thread);
                    for _ in 0..500 {
                        if let Err(error) = blind_step(&mut random, root) {
                            assert_ne!(error.errno(), Errno::EIO);
                        }
                        list(&**root, 3);
                    }
                });
            }
        });
        let seen = tree(&root, 3);
        assert_eq!(seen, tree(&union(&lower, &upper).root(), 3));
    }
}
