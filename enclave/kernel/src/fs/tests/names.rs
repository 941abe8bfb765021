//! Paths, names, attributes.

use super::*;

#[test]
fn opening_answers_what_the_man_page_says() {
    let w = World::new();
    w.make("/f", b"content");
    w.call(83, [w.path("/d"), 0o755]).unwrap();
    w.call(88, [w.path("f"), w.path("/l")]).unwrap();
    assert_eq!(w.open("/none", 0), Err(Errno::ENOENT));
    assert_eq!(w.open("", 0), Err(Errno::ENOENT));
    assert_eq!(w.open("/f/x", 0), Err(Errno::ENOTDIR));
    assert_eq!(w.open("/f", O_CREAT | O_EXCL), Err(Errno::EEXIST));
    assert_eq!(w.open("/l", O_CREAT | O_EXCL), Err(Errno::EEXIST));
    assert_eq!(w.open("/l", O_NOFOLLOW), Err(Errno::ELOOP));
    assert_eq!(w.open("/d", O_WRONLY), Err(Errno::EISDIR));
    assert_eq!(w.open("/d", O_CREAT), Err(Errno::EISDIR));
    assert_eq!(w.open("/new/", O_CREAT | O_WRONLY), Err(Errno::EISDIR));
    assert_eq!(w.open("/f", O_DIRECTORY), Err(Errno::ENOTDIR));
    assert_eq!(w.open("/ro/new", O_CREAT | O_WRONLY), Err(Errno::EROFS));
    assert_eq!(w.call(2, [0, 0, 0]), Err(Errno::EFAULT));
    assert_eq!(w.call(257, [77, w.path("rel"), 0, 0]), Err(Errno::EBADF));
    assert_eq!(w.cat("/l"), Ok(b"content".to_vec()));
    let dir = w.open("/d", O_DIRECTORY).unwrap();
    assert_eq!(w.call(257, [dir, w.path("../f"), 0, 0]).map(|fd| fd > dir), Ok(true));
    assert_eq!(w.read(dir, 1), Err(Errno::EISDIR));
}

#[test]
fn the_lowest_free_number_is_given() {
    let w = World::new();
    w.make("/f", b"");
    assert_eq!(w.open("/f", 0), Ok(3));
    assert_eq!(w.open("/f", 0), Ok(4));
    w.call(3, [3]).unwrap();
    assert_eq!(w.call(32, [4]), Ok(3));
    assert_eq!(w.call(33, [4, 9]), Ok(9));
    assert_eq!(w.call(33, [4, 4]), Ok(4));
    assert_eq!(w.call(292, [4, 4, 0]), Err(Errno::EINVAL));
    assert_eq!(w.call(33, [4, 1 << 20]), Err(Errno::EBADF));
    assert_eq!(w.call(72, [4, 0, 6]), Ok(6));
    assert_eq!(w.open("/f", 0), Ok(5));
    assert_eq!(w.call(3, [100]), Err(Errno::EBADF));
    assert_eq!(w.call(436, [4, u64::from(u32::MAX), 0]), Ok(0));
    assert_eq!(w.open("/f", 0), Ok(4));
}

#[test]
fn close_on_exec_belongs_to_the_descriptor() {
    let w = World::new();
    w.make("/f", b"");
    let fd = w.open("/f", O_CLOEXEC).unwrap();
    let copy = w.call(32, [fd]).unwrap();
    assert_eq!((w.call(72, [fd, 1]), w.call(72, [copy, 1])), (Ok(1), Ok(0)));
    w.process.world().1.close_on_exec();
    assert_eq!((w.call(72, [fd, 1]), w.call(72, [copy, 1])), (Err(Errno::EBADF), Ok(0)));
}

#[test]
fn a_position_is_shared_after_dup_and_not_after_open() {
    let w = World::new();
    w.make("/f", b"abcdef");
    let a = w.open("/f", 0).unwrap();
    let b = w.call(32, [a]).unwrap();
    let c = w.open("/f", 0).unwrap();
    assert_eq!(w.read(a, 2), Ok(b"ab".to_vec()));
    assert_eq!(w.read(b, 2), Ok(b"cd".to_vec()));
    assert_eq!(w.read(c, 2), Ok(b"ab".to_vec()));
    assert_eq!(w.call(8, [a, 0, 1]), Ok(4));
    assert_eq!(w.call(8, [a, -1i64 as u64, 2]), Ok(5));
    assert_eq!(w.call(8, [a, -9i64 as u64, 0]), Err(Errno::EINVAL));
    assert_eq!(w.call(8, [a, 0, 9]), Err(Errno::EINVAL));
    assert_eq!(w.call(17, [a, MEMORY, 2, 1]), Ok(2));
    assert_eq!(w.peek(MEMORY, 2), b"bc");
    assert_eq!(w.call(8, [a, 0, 1]), Ok(5));
}

#[test]
fn a_read_at_the_end_touches_no_memory() {
    let w = World::new();
    w.make("/f", b"x");
    let fd = w.open("/f", O_RDWR).unwrap();
    assert_eq!(w.call(0, [fd, 0, 1]), Err(Errno::EFAULT));
    assert_eq!(w.read(fd, 1), Ok(b"x".to_vec()));
    assert_eq!(w.call(0, [fd, 0, 1]), Ok(0));
    assert_eq!(w.call(1, [fd, 0, 1]), Err(Errno::EFAULT));
    assert_eq!(w.call(1, [fd, 0, 0]), Ok(0));
    assert_eq!(w.call(0, [fd, u64::MAX - 5, 9]), Err(Errno::EFAULT));
    let read_only = w.open("/f", 0).unwrap();
    assert_eq!(w.write(read_only, b"x"), Err(Errno::EBADF));
    let write_only = w.open("/f", O_WRONLY).unwrap();
    assert_eq!(w.read(write_only, 1), Err(Errno::EBADF));
}

#[test]
fn appending_goes_to_the_end_wherever_the_position_is() {
    let w = World::new();
    w.make("/f", b"one");
    let fd = w.open("/f", O_RDWR | O_APPEND).unwrap();
    w.call(8, [fd, 0, 0]).unwrap();
    assert_eq!(w.write(fd, b"two"), Ok(3));
    assert_eq!(w.call(8, [fd, 0, 1]), Ok(6));
    w.poke(MEMORY, b"three");
    assert_eq!(w.call(18, [fd, MEMORY, 5, 0]), Ok(5));
    assert_eq!(w.cat("/f"), Ok(b"onetwothree".to_vec()));
}

#[test]
fn vectors_are_gathered_and_scattered() {
    let w = World::new();
    let fd = w.open("/f", O_CREAT | O_RDWR).unwrap();
    w.poke(MEMORY, b"hello world");
    let mut vector = Vec::new();
    for word in [MEMORY, 5, 0, 0, MEMORY + 5, 6] {
        vector.extend_from_slice(&u64::to_le_bytes(word));
    }
    w.poke(MEMORY + 4096, &vector);
    assert_eq!(w.call(20, [fd, MEMORY + 4096, 3]), Ok(11));
    assert_eq!(w.call(20, [fd, MEMORY + 4096, 1025]), Err(Errno::EINVAL));
    assert_eq!(w.cat("/f"), Ok(b"hello world".to_vec()));
    assert_eq!(w.call(295, [fd, MEMORY + 4096, 3, 6, 0]), Ok(5));
    assert_eq!(w.peek(MEMORY, 5), b"world");
}

#[test]
fn directories_are_listed_with_dots_and_mounts() {
    let w = World::new();
    for name in ["/a", "/b", "/long-name-of-a-file-that-needs-a-large-record"] {
        w.make(name, b"");
    }
    let names = [".", "..", "a", "b", "dev", "long-name-of-a-file-that-needs-a-large-record", "proc", "ro"];
    assert_eq!(w.list("/").unwrap(), names);
    let fd = w.open("/", O_DIRECTORY).unwrap();
    assert_eq!(w.call(217, [fd, MEMORY, 10]), Err(Errno::EINVAL));
    assert_eq!(w.call(217, [0, MEMORY, 100]), Err(Errno::ENOTDIR));
}

#[test]
fn a_removed_directory_is_not_listed_and_has_no_path() {
    let w = World::new();
    w.call(83, [w.path("/d"), 0o777]).unwrap();
    let fd = w.open("/d", O_DIRECTORY).unwrap();
    w.call(80, [w.path("d")]).unwrap();
    assert_eq!(w.call(79, [MEMORY, 100]), Ok(3));
    assert_eq!(w.peek(MEMORY, 3), b"/d\0");
    assert_eq!(w.call(79, [MEMORY, 2]), Err(Errno::ERANGE));
    assert_eq!(w.call(84, [w.path("../d")]), Ok(0));
    assert_eq!(w.call(79, [MEMORY, 100]), Err(Errno::ENOENT));
    assert_eq!(w.call(217, [fd, MEMORY, 100]), Err(Errno::ENOENT));
    assert_eq!(w.open("new", O_CREAT | O_WRONLY), Err(Errno::ENOENT));
    assert_eq!(w.call(80, [w.path("..")]), Ok(0));
}

#[test]
fn names_are_made_moved_and_removed() {
    let w = World::new();
    w.make("/f", b"x");
    let ino = w.stat("/f").unwrap().2;
    assert_eq!(w.call(86, [w.path("/f"), w.path("/g")]), Ok(0));
    assert_eq!(w.stat("/g").unwrap().2, ino);
    assert_eq!(w.call(82, [w.path("/f"), w.path("/g")]), Ok(0));
    assert!(w.stat("/f").is_ok(), "two names of one file: rename does nothing");
    assert_eq!(w.call(87, [w.path("/f")]), Ok(0));
    assert_eq!(w.stat("/f"), Err(Errno::ENOENT));
    assert_eq!(w.call(316, [AT_FDCWD, w.path("/g"), AT_FDCWD, w.path("/ro/g"), 0]), Err(Errno::EXDEV));
    assert_eq!(w.call(83, [w.path("/d/"), 0o755]), Ok(0));
    assert_eq!(w.call(83, [w.path("/d"), 0o755]), Err(Errno::EEXIST));
    assert_eq!(w.call(83, [w.path("/ro"), 0o755]), Err(Errno::EEXIST));
    assert_eq!(w.call(83, [w.path("/ro/x"), 0o755]), Err(Errno::EROFS));
    assert_eq!(w.call(87, [w.path("/d")]), Err(Errno::EISDIR));
    assert_eq!(w.call(87, [w.path("/g/")]), Err(Errno::ENOTDIR));
    assert_eq!(w.call(84, [w.path("/g")]), Err(Errno::ENOTDIR));
    assert_eq!(w.call(84, [w.path("/d/.")]), Err(Errno::EINVAL));
    assert_eq!(w.call(84, [w.path("/ro")]), Err(Errno::EBUSY));
    assert_eq!(w.call(84, [w.path("/")]), Err(Errno::EBUSY));
    assert_eq!(w.call(82, [w.path("/g"), w.path("/d/h")]), Ok(0));
    assert_eq!(w.call(84, [w.path("/d")]), Err(Errno::ENOTEMPTY));
    assert_eq!(w.call(82, [w.path("/d"), w.path("/d/e")]), Err(Errno::EINVAL));
    assert_eq!(w.cat("/d/h"), Ok(b"x".to_vec()));
}

#[test]
fn links_are_read_and_followed() {
    let w = World::new();
    w.call(88, [w.path("target/of/link"), w.path("/l")]).unwrap();
    assert_eq!(w.readlink("/l"), Ok(b"target/of/link".to_vec()));
    assert_eq!(w.call(89, [w.path("/l"), MEMORY, 6]), Ok(6));
    assert_eq!(w.call(89, [w.path("/l"), MEMORY, 0]), Err(Errno::EINVAL));
    assert_eq!(w.readlink("/"), Err(Errno::EINVAL));
    assert_eq!(w.call(88, [w.path(""), w.path("/m")]), Err(Errno::ENOENT));
    let fd = w.open("/l", O_PATH | O_NOFOLLOW).unwrap();
    assert_eq!(w.call(267, [fd, w.path(""), MEMORY, 100]), Ok(14));
    assert_eq!(w.read(fd, 1), Err(Errno::EBADF));
    assert_eq!(w.open("/l", O_CREAT | O_WRONLY), Err(Errno::ENOENT));
    assert_eq!(w.call(6, [w.path("/l"), MEMORY]), Ok(0));
    assert_eq!(w.peek(MEMORY + 24, 4), 0o120_777u32.to_le_bytes());
}

#[test]
fn attributes_are_kept() {
    let w = World::new();
    w.make("/f", b"12345");
    assert_eq!(w.stat("/f").map(|(mode, size, _)| (mode, size)), Ok((0o100_644, 5)));
    w.call(90, [w.path("/f"), 0o4711]).unwrap();
    assert_eq!(w.stat("/f").unwrap().0, 0o104_711);
    w.call(92, [w.path("/f"), 7, u64::MAX]).unwrap();
    assert_eq!(w.stat("/f").unwrap().0, 0o100_711, "a new owner clears the set-id bits");
    assert_eq!(w.peek(MEMORY + 28, 8), [7, 0, 0, 0, 0, 0, 0, 0]);
    let mut times = Vec::new();
    for word in [11i64, 22, 33, 0x3fff_fffe] {
        times.extend_from_slice(&word.to_le_bytes());
    }
    w.poke(MEMORY + 4096, &times);
    w.call(280, [AT_FDCWD, w.path("/f"), MEMORY + 4096, 0]).unwrap();
    w.stat("/f").unwrap();
    assert_eq!((w.peek_u64(MEMORY + 72), w.peek_u64(MEMORY + 80)), (11, 22));
    assert_eq!(w.call(90, [w.path("/ro"), 0o700]), Err(Errno::EROFS));
    assert_eq!(w.call(21, [w.path("/ro"), 2]), Err(Errno::EROFS));
    assert_eq!(w.call(21, [w.path("/f"), 7]), Ok(0));
    w.call(90, [w.path("/f"), 0o600]).unwrap();
    assert_eq!(w.call(21, [w.path("/f"), 1]), Err(Errno::EACCES));
    assert_eq!(w.call(95, [0o077]), Ok(0o022));
    w.make("/g", b"");
    assert_eq!(w.stat("/g").unwrap().0, 0o100_600);
}

#[test]
fn what_is_created_belongs_to_who_creates_it() {
    let w = World::new();
    w.process.credentials.users.set([None, Some(33), None]);
    w.process.credentials.groups.set([None, Some(44), None]);
    w.make("/f", b"");
    w.call(83, [w.path("/d"), 0o755]).unwrap();
    w.call(88, [w.path("f"), w.path("/l")]).unwrap();
    for path in ["/f", "/d", "/l"] {
        w.call(6, [w.path(path), MEMORY]).unwrap();
        assert_eq!(w.peek(MEMORY + 28, 8), [33, 0, 0, 0, 44, 0, 0, 0], "{path}");
    }
}

#[test]
fn sizes_change() {
    let w = World::new();
    w.make("/f", b"12345");
    w.call(76, [w.path("/f"), 3]).unwrap();
    let fd = w.open("/f", O_RDWR).unwrap();
    w.call(77, [fd, 6]).unwrap();
    assert_eq!(w.cat("/f"), Ok(b"123\0\0\0".to_vec()));
    assert_eq!(w.call(76, [w.path("/f"), -1i64 as u64]), Err(Errno::EINVAL));
    assert_eq!(w.call(76, [w.path("/"), 0]), Err(Errno::EISDIR));
    w.call(285, [fd, 0, 0, 100]).unwrap();
    assert_eq!(w.stat("/f").unwrap().1, 100);
    w.call(285, [fd, 3, 0, 2]).unwrap();
    assert_eq!(w.read(fd, 3), Ok(b"\0\x003".to_vec()));
    assert_eq!(w.call(74, [fd]), Ok(0));
    assert_eq!(w.call(74, [1]), Err(Errno::EINVAL));
}

#[test]
fn an_unnamed_file_can_be_given_a_name() {
    let w = World::new();
    let fd = w.open("/", O_TMPFILE | O_RDWR).unwrap();
    w.write(fd, b"secret").unwrap();
    assert_eq!(w.list("/").unwrap().len(), 5);
    assert_eq!(w.call(265, [fd, w.path(""), AT_FDCWD, w.path("/named"), 0x1000]), Ok(0));
    assert_eq!(w.cat("/named"), Ok(b"secret".to_vec()));
    assert_eq!(w.open("/", O_TMPFILE), Err(Errno::EINVAL));
}

#[test]
fn openat2_checks_what_open_ignores() {
    let w = World::new();
    w.make("/f", b"x");
    w.call(88, [w.path("/f"), w.path("/l")]).unwrap();
    let how = |flags: u64, mode: u64, resolve: u64| {
        let bytes: Vec<u8> = [flags, mode, resolve, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        w.poke(MEMORY, &bytes);
    };
    let call = |path: &str, size: u64| w.call(437, [AT_FDCWD, w.path(path), MEMORY, size]);
    how(0, 0, 0);
    assert!(call("/f", 24).is_ok());
    assert!(call("/f", 32).is_ok());
    assert_eq!(call("/f", 16), Err(Errno::EINVAL));
    how(1 << 40, 0, 0);
    assert_eq!(call("/f", 24), Err(Errno::EINVAL));
    how(0, 0o644, 0);
    assert_eq!(call("/f", 24), Err(Errno::EINVAL));
    how(0, 0, 4);
    assert_eq!(call("/l", 24), Err(Errno::ELOOP));
    how(0, 0, 8);
    assert_eq!(call("/f", 24), Err(Errno::EXDEV));
    assert!(call("f", 24).is_ok());
    how(0, 0, 1);
    assert_eq!(call("dev/null", 24), Err(Errno::EXDEV));
}

#[test]
fn files_are_copied_between_descriptors() {
    let w = World::new();
    w.make("/f", b"0123456789");
    let from = w.open("/f", 0).unwrap();
    let to = w.open("/g", O_CREAT | O_RDWR).unwrap();
    assert_eq!(w.call(40, [to, from, 0, 4]), Ok(4));
    w.poke(MEMORY, &8u64.to_le_bytes());
    assert_eq!(w.call(326, [from, MEMORY, to, 0, 100, 0]), Ok(2));
    assert_eq!(w.peek_u64(MEMORY), 10);
    assert_eq!(w.cat("/g"), Ok(b"012389".to_vec()));
    assert_eq!(w.read(from, 1), Ok(b"4".to_vec()));
    assert_eq!(w.call(40, [1, from, 0, 100]), Ok(5));
    assert_eq!(w.platform.output(1), b"56789");
}

#[test]
fn record_locks_belong_to_processes() {
    let w = World::new();
    w.make("/f", b"0123456789");
    let other = w.beside();
    let lock = |world: &World, fd: u64, command: u64, kind: i16, start: i64, len: i64| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&start.to_le_bytes());
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        world.poke(MEMORY, &bytes);
        world.call(72, [fd, command, MEMORY])
    };
    let mine = w.open("/f", O_RDWR).unwrap();
    let theirs = other.open("/f", O_RDWR).unwrap();
    assert_eq!(lock(&w, mine, 6, 1, 0, 5), Ok(0));
    assert_eq!(lock(&other, theirs, 6, 0, 4, 1), Err(Errno::EAGAIN));
    assert_eq!(lock(&other, theirs, 6, 1, 5, 5), Ok(0));
    assert_eq!(lock(&other, theirs, 5, 0, 0, 0), Ok(0));
    assert_eq!(other.peek(MEMORY, 2), [1, 0]);
    assert_eq!(other.peek(MEMORY + 24, 4), w.process.pid.to_le_bytes());
    // Closing any descriptor of the file releases them.
    let second = w.open("/f", 0).unwrap();
    w.call(3, [second]).unwrap();
    assert_eq!(lock(&other, theirs, 6, 0, 4, 1), Ok(0));
    assert_eq!(w.call(73, [mine, 2]), Ok(0));
    assert_eq!(other.call(73, [theirs, 1 | 4]), Err(Errno::EAGAIN));
    w.call(3, [mine]).unwrap();
    assert_eq!(other.call(73, [theirs, 1 | 4]), Ok(0));
}

#[test]
fn of_two_mistakes_the_one_that_linux_finds_first_is_told() {
    let w = World::new();
    let long = format!("/{}", "x".repeat(256));
    w.make("/f", b"0123456789");
    let file = w.open("/f", O_RDWR).unwrap();
    let dir = w.open("/", O_DIRECTORY).unwrap();
    assert_eq!(w.call(82, [w.path("/none"), w.path(&long)]), Err(Errno::ENOENT));
    assert_eq!(w.call(82, [w.path("/f"), w.path(&long)]), Err(Errno::ENAMETOOLONG));
    assert_eq!(w.call(82, [w.path("/f"), w.path("/ro/..")]), Err(Errno::EXDEV));
    assert_eq!(w.call(82, [w.path("/f"), w.path("/..")]), Err(Errno::EBUSY));
    assert_eq!(w.call(285, [99, 0, 0, 0]), Err(Errno::EBADF));
    assert_eq!(w.call(285, [file, 0, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(w.call(18, [dir, MEMORY, 1, 0]), Err(Errno::EBADF));
    assert_eq!(w.call(18, [1, MEMORY, 1, 0]), Err(Errno::ESPIPE));
    assert_eq!(w.call(40, [file, dir, 0, 0]), Ok(0));
    assert_eq!(w.call(40, [file, dir, 0, 1]), Err(Errno::EINVAL));
    assert_eq!(w.call(326, [dir, 0, file, 0, 1, 0]), Err(Errno::EISDIR));
    w.poke(MEMORY, &[4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(w.call(326, [file, 0, file, MEMORY, 5, 0]), Err(Errno::EINVAL));
    assert_eq!(w.call(326, [file, 0, file, MEMORY, 4, 0]), Ok(4));
    assert_eq!(w.cat("/f"), Ok(b"0123012389".to_vec()));
}
