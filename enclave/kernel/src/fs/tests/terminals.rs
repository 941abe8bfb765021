//! Pseudo-terminals, as a program uses them.

use super::*;

const IOCTL: u64 = 16;
const TIOCSCTTY: u64 = 0x540e;
const TIOCGPGRP: u64 = 0x540f;
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCSPTLCK: u64 = 0x4004_5431;
const O_NOCTTY: u64 = 0o400;

/// A master and its slave.
fn pair(w: &World) -> (u64, u64) {
    let master = w.open("/dev/ptmx", O_RDWR | O_NONBLOCK).unwrap();
    w.call(IOCTL, [master, TIOCGPTN, MEMORY]).unwrap();
    let path = format!("/dev/pts/{}", w.peek(MEMORY, 4)[0]);
    assert_eq!(w.open(&path, O_RDWR | O_NOCTTY), Err(Errno::EIO), "it is locked");
    w.poke(MEMORY, &[0; 4]);
    w.call(IOCTL, [master, TIOCSPTLCK, MEMORY]).unwrap();
    (master, w.open(&path, O_RDWR | O_NOCTTY | O_NONBLOCK).unwrap())
}

#[test]
fn what_is_typed_is_read_and_what_is_written_is_seen() {
    let w = World::new();
    let (master, slave) = pair(&w);
    assert_eq!(w.read(slave, 10), Err(Errno::EAGAIN));
    assert_eq!(w.write(master, b"hi\n"), Ok(3));
    assert_eq!(w.read(slave, 10), Ok(b"hi\n".to_vec()));
    assert_eq!(w.write(slave, b"ho\n"), Ok(3));
    assert_eq!(w.read(master, 10), Ok(b"hi\r\nho\r\n".to_vec()));
    assert_eq!(w.read(master, 10), Err(Errno::EAGAIN));
}

#[test]
fn an_end_that_closes_hangs_up_the_other() {
    let w = World::new();
    let (master, slave) = pair(&w);
    w.write(slave, b"bye").unwrap();
    w.call(3, [slave]).unwrap();
    assert_eq!(w.read(master, 10), Ok(b"bye".to_vec()));
    assert_eq!(w.read(master, 10), Err(Errno::EIO));
    let (master, slave) = pair(&w);
    w.call(3, [master]).unwrap();
    assert_eq!(w.read(slave, 10), Ok(Vec::new()));
    assert_eq!(w.write(slave, b"x"), Err(Errno::EIO));
}

#[test]
fn terminals_have_names_while_they_have_a_master() {
    let w = World::new();
    let (first, _) = pair(&w);
    let (second, _) = pair(&w);
    assert_eq!(w.list("/dev/pts").unwrap(), [".", "..", "0", "1", "ptmx"]);
    w.call(3, [first]).unwrap();
    assert_eq!(w.list("/dev/pts").unwrap(), [".", "..", "1", "ptmx"]);
    w.call(3, [second]).unwrap();
    assert_eq!(w.open("/dev/pts/01", O_RDWR), Err(Errno::ENOENT));
}

#[test]
fn a_terminal_controls_one_session() {
    let w = World::new();
    let (_, slave) = pair(&w);
    assert_eq!(w.call(IOCTL, [slave, TIOCGPGRP, MEMORY]), Err(Errno::ENOTTY));
    assert_eq!(w.call(IOCTL, [slave, TIOCSCTTY, 0]), Ok(0));
    assert_eq!(w.call(IOCTL, [slave, TIOCSCTTY, 0]), Ok(0), "again is no error");
    w.call(IOCTL, [slave, TIOCGPGRP, MEMORY]).unwrap();
    assert_eq!(w.peek(MEMORY, 4), w.process.pid.to_le_bytes());
    let other = w.beside();
    let path = "/dev/pts/0";
    let again = other.open(path, O_RDWR | O_NOCTTY).unwrap();
    assert_eq!(other.call(IOCTL, [again, TIOCSCTTY, 0]), Err(Errno::EPERM));
}

#[test]
fn the_keyboard_signals_the_foreground() {
    let w = World::new();
    let (master, slave) = pair(&w);
    w.call(IOCTL, [slave, TIOCSCTTY, 0]).unwrap();
    w.write(master, b"\x03").unwrap();
    assert!(w.process.signals.pending().has(Signal::SIGINT));
    w.call(3, [master]).unwrap();
    assert!(w.process.signals.pending().has(Signal::SIGHUP));
}
