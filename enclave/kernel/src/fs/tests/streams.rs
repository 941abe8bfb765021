//! Standard streams and devices.

use super::*;

#[test]
fn standard_output_reaches_the_host() {
    let w = World::new();
    assert_eq!(w.write(1, b"hello\n"), Ok(6));
    assert_eq!(w.write(2, b"oops\n"), Ok(5));
    assert_eq!(w.platform.output(1), b"hello\n");
    assert_eq!(w.platform.output(2), b"oops\n");
    let large = vec![b'x'; 200_000];
    assert_eq!(w.write(1, &large), Ok(200_000));
    assert_eq!(w.platform.output(1).len(), 200_006);
}

#[test]
fn what_the_host_cuts_short_for_nothing_is_written_nevertheless() {
    let w = World::new();
    w.platform.cut_writes(&[0, 3, 0, 0, 1]);
    assert_eq!(w.write(1, b"standard output"), Ok(15));
    assert_eq!(w.platform.output(1), b"standard output");
    w.handle_signals();
    w.send_signal();
    w.platform.cut_writes(&[0]);
    assert_eq!(w.write(1, b"more"), Err(Errno::ERESTARTSYS));
    w.platform.cut_writes(&[3, 0]);
    assert_eq!(w.write(1, b"more"), Ok(3));
    assert_eq!(w.platform.output(1), b"standard outputmor");
}

#[test]
fn standard_input_comes_from_the_host() {
    let w = World::new();
    w.platform.set_input(b"typed");
    assert_eq!(w.read(0, 3), Ok(b"typ".to_vec()));
    assert_eq!(w.read(0, 9), Ok(b"ed".to_vec()));
}

#[test]
fn a_stream_is_no_terminal_and_cannot_seek() {
    let w = World::new();
    assert_eq!(w.call(16, [1, 0x5401, MEMORY]), Err(Errno::ENOTTY));
    assert_eq!(w.call(8, [1, 0, 1]), Err(Errno::ESPIPE));
    assert_eq!(w.call(17, [0, MEMORY, 1, 0]), Err(Errno::ESPIPE));
    assert_eq!(w.call(5, [1, MEMORY]), Ok(0));
    let mode = u32::from_le_bytes(w.peek(MEMORY + 24, 4).try_into().unwrap());
    assert_ne!(mode & 0o170_000, 0o100_000, "programs buffer by this");
}

#[test]
fn memory_devices_do_what_their_names_say() {
    let w = World::new();
    let null = w.open("/dev/null", O_RDWR).unwrap();
    assert_eq!(w.read(null, 8), Ok(Vec::new()));
    assert_eq!(w.write(null, b"gone"), Ok(4));
    let zero = w.open("/dev/zero", 0).unwrap();
    w.poke(MEMORY, &[7; 16]);
    assert_eq!(w.read(zero, 1000), Ok(vec![0; 1000]));
    let full = w.open("/dev/full", O_WRONLY).unwrap();
    assert_eq!(w.write(full, b"x"), Err(Errno::ENOSPC));
    let random = w.open("/dev/urandom", 0).unwrap();
    let (a, b) = (w.read(random, 300).unwrap(), w.read(random, 300).unwrap());
    assert!(a.len() == 300 && a != b);
    assert_eq!(w.stat("/dev/null").unwrap().0, 0o020_666);
    assert_eq!(w.call(8, [null, 0, 0]), Ok(0));
}

#[test]
fn a_memory_file_has_no_name() {
    let w = World::new();
    let fd = w.call(319, [w.path("buffer"), 1]).unwrap();
    w.write(fd, b"12345").unwrap();
    assert_eq!(w.call(77, [fd, 100]), Ok(0));
    assert_eq!(w.call(5, [fd, MEMORY]), Ok(0));
    assert_eq!(w.peek_u64(MEMORY + 48), 100);
    assert_eq!(w.call(72, [fd, 1]), Ok(1));
}
