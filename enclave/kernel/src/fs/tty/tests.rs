use super::line::Line;
use linux_abi::signal::Signal;
use linux_abi::tty::{LocalFlags, OutputFlags, Termios, control};

/// Types text and returns the signals it means.
fn type_text(line: &mut Line, text: &[u8]) -> Vec<Signal> {
    line.begin_typing();
    text.iter().filter_map(|&byte| line.type_byte(byte)).collect()
}

fn read(line: &mut Line) -> Option<Vec<u8>> {
    line.take_input(100)
}

fn raw(min: u8) -> Termios {
    let mut termios = Termios { c_iflag: 0, c_oflag: 0, c_lflag: 0, ..Termios::initial() };
    termios.c_cc[control::VMIN] = min;
    termios
}

#[test]
fn a_line_is_read_when_it_is_ended_and_shown_as_it_is_typed() {
    let mut line = Line::new();
    type_text(&mut line, b"ab");
    assert_eq!(read(&mut line), None);
    type_text(&mut line, b"c\rnext\n");
    assert_eq!(read(&mut line).unwrap(), b"abc\n");
    assert_eq!(read(&mut line).unwrap(), b"next\n");
    assert_eq!(line.take_output(100), b"abc\r\nnext\r\n");
}

#[test]
fn a_short_read_leaves_the_rest_of_a_line() {
    let mut line = Line::new();
    type_text(&mut line, b"abc\n");
    assert_eq!(line.take_input(2).unwrap(), b"ab");
    assert_eq!(line.take_input(2).unwrap(), b"c\n");
}

#[test]
fn a_line_can_be_edited() {
    let mut line = Line::new();
    type_text(&mut line, b"abX\x7fc\n");
    assert_eq!(read(&mut line).unwrap(), b"abc\n");
    assert_eq!(line.take_output(100), b"abX\x08 \x08c\r\n");
    type_text(&mut line, b"one two_2  \x17x\n");
    assert_eq!(read(&mut line).unwrap(), b"one x\n");
    type_text(&mut line, b"gone\x15\x7fkept\n");
    assert_eq!(read(&mut line).unwrap(), b"kept\n");
    type_text(&mut line, b"a\x16\x03b\n");
    assert_eq!(read(&mut line).unwrap(), b"a\x03b\n");
}

#[test]
fn a_tab_is_erased_with_all_its_columns() {
    let mut line = Line::new();
    type_text(&mut line, b"ab\t\x7f");
    assert_eq!(line.take_output(100), b"ab\t\x08\x08\x08\x08\x08\x08");
}

#[test]
fn the_end_of_input_ends_a_read_and_is_no_byte() {
    let mut line = Line::new();
    type_text(&mut line, b"ab\x04\x04");
    assert_eq!(read(&mut line).unwrap(), b"ab");
    assert_eq!(read(&mut line).unwrap(), b"");
    assert_eq!(read(&mut line), None);
    type_text(&mut line, b"ab\x04");
    assert_eq!(line.take_input(2).unwrap(), b"ab");
    assert_eq!(read(&mut line), None);
}

#[test]
fn characters_that_mean_signals_forget_what_was_typed() {
    let mut line = Line::new();
    assert_eq!(type_text(&mut line, b"abc\x03"), [Signal::SIGINT]);
    assert_eq!(line.take_output(100), b"^C");
    assert_eq!(type_text(&mut line, b"\x1a\x1cx\n"), [Signal::SIGTSTP, Signal::SIGQUIT]);
    assert_eq!(read(&mut line).unwrap(), b"x\n");
    line.set_termios(raw(1));
    assert_eq!(type_text(&mut line, b"\x03"), []);
    assert_eq!(read(&mut line).unwrap(), b"\x03");
}

#[test]
fn what_is_typed_ahead_stays_when_the_mode_changes() {
    let mut line = Line::new();
    type_text(&mut line, b"half");
    assert_eq!(line.readable(), 0);
    line.set_termios(raw(1));
    assert_eq!(line.readable(), 4);
    line.set_termios(Termios::initial());
    assert_eq!(read(&mut line).unwrap(), b"half");
}

#[test]
fn stopped_output_takes_nothing() {
    let mut line = Line::new();
    type_text(&mut line, b"\x13");
    assert_eq!(line.output_room(), 0);
    type_text(&mut line, b"\x11");
    assert!(line.output_room() > 0);
}

#[test]
fn output_is_processed_as_the_flags_say() {
    let mut line = Line::new();
    b"a\nb".iter().for_each(|&byte| line.write(byte));
    assert_eq!(line.take_output(100), b"a\r\nb");
    let flags = OutputFlags::OPOST | OutputFlags::XTABS | OutputFlags::OLCUC | OutputFlags::OCRNL;
    line.set_termios(Termios { c_oflag: flags.bits(), ..Termios::initial() });
    b"\rab\tc".iter().for_each(|&byte| line.write(byte));
    assert_eq!(line.take_output(100), b"\nAB     C");
}

#[test]
fn a_line_that_is_too_long_keeps_its_end() {
    let mut line = Line::new();
    line.set_termios(Termios {
        c_lflag: Termios::initial().c_lflag & !LocalFlags::ECHO.bits(),
        ..Termios::initial()
    });
    type_text(&mut line, &[b'x'; 5000]);
    type_text(&mut line, b"\n");
    assert_eq!(line.take_input(10_000).unwrap().len(), 4096);
}
