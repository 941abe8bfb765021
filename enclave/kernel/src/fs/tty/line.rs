//! The line discipline: what lies between what is typed and what is read, and between what is written and what is seen
//! (N_TTY, `termios(3)`). A state machine without locks, waiting or user memory.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use linux_abi::signal::Signal;
use linux_abi::tty::{InputFlags, LocalFlags, OutputFlags, Termios, control, packet};

/// Longest line that is edited, with its end.
const LINE_MAX: usize = 4096;
/// Bytes that may be typed ahead.
const INPUT_MAX: usize = 64 * 1024;
/// Bytes that may be written ahead.
const OUTPUT_MAX: usize = 8192;
/// Columns between tab stops.
const TAB: usize = 8;
const BELL: u8 = 7;
const BACKSPACE: u8 = 8;

/// What a byte of input means to a reader of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Nothing.
    None,
    /// It ends a line.
    End,
    /// It is no byte at all: it ends what is read (VEOF).
    Eof,
}

/// What is erased.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

/// The state of one terminal.
pub(super) struct Line {
    termios: Termios,
    input: VecDeque<(u8, Mark)>,
    /// How many bytes of the input belong to lines that are ended. The rest may still be edited.
    complete: usize,
    output: VecDeque<u8>,
    /// Where the cursor is.
    column: usize,
    /// Where it was when the line that is edited began.
    line_column: usize,
    is_stopped: bool,
    takes_literally: bool,
    /// Output before what is typed now: what is echoed comes after that.
    echo_start: usize,
    /// What packet mode has to tell.
    status: u8,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self {
            termios: Termios::initial(),
            input: VecDeque::new(),
            complete: 0,
            output: VecDeque::new(),
            column: 0,
            line_column: 0,
            is_stopped: false,
            takes_literally: false,
            echo_start: 0,
            status: 0,
        }
    }

    pub(super) const fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Sets the attributes. Input that is there stays, as a line if lines are read from now on.
    pub(super) fn set_termios(&mut self, new: Termios) {
        let was_canonical = self.is_canonical();
        self.termios = new;
        if was_canonical != self.is_canonical() {
            self.input.iter_mut().for_each(|cell| cell.1 = Mark::None);
            self.complete = 0;
            if self.is_canonical()
                && let Some(last) = self.input.back_mut()
            {
                last.1 = Mark::End;
                self.complete = self.input.len();
            }
        }
        if !self.termios.input(InputFlags::IXON) {
            self.start();
        }
    }

    pub(super) const fn is_canonical(&self) -> bool {
        self.termios.local(LocalFlags::ICANON)
    }

    /// VMIN, and VTIME in tenths of a second.
    pub(super) fn minimum(&self) -> (usize, u8) {
        (self.termios.control(control::VMIN).into(), self.termios.control(control::VTIME))
    }

    /// Bytes that a reader can have.
    pub(super) fn readable(&self) -> usize {
        if self.is_canonical() { self.complete } else { self.input.len() }
    }

    /// Bytes that are to be seen.
    pub(super) fn visible(&self) -> usize {
        self.output.len()
    }

    /// Bytes that can be typed. A line that is too long loses its end, so that there is room for the end of a line.
    pub(super) fn input_room(&self) -> usize {
        if self.is_canonical() && self.complete == 0 {
            return INPUT_MAX;
        }
        INPUT_MAX.saturating_sub(self.input.len())
    }

    /// Bytes that can be written.
    pub(super) fn output_room(&self) -> usize {
        if self.is_stopped { 0 } else { OUTPUT_MAX.saturating_sub(self.output.len()) }
    }

    /// Takes input: at most `max` bytes, and of lines at most one. `None`: there is none. Empty: the end of input.
    pub(super) fn take_input(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.readable() == 0 {
            return None;
        }
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some((byte, mark)) = self.input.pop_front() else { break };
            self.complete = self.complete.saturating_sub(1);
            if mark == Mark::Eof {
                return Some(taken);
            }
            taken.push(byte);
            if mark == Mark::End {
                return Some(taken);
            }
        }
        // An end of input right behind what filled the buffer belongs to it.
        if max > 0 && matches!(self.input.front(), Some((_, Mark::Eof))) {
            self.input.pop_front();
            self.complete = self.complete.saturating_sub(1);
        }
        Some(taken)
    }

    /// Puts back input that a reader could not have.
    pub(super) fn untake_input(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().rev() {
            self.input.push_front((byte, if byte == b'\n' { Mark::End } else { Mark::None }));
            if self.is_canonical() {
                self.complete += 1;
            }
        }
    }

    /// Takes at most `max` bytes of output.
    pub(super) fn take_output(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.output.len());
        self.output.drain(..count).collect()
    }

    pub(super) fn untake_output(&mut self, bytes: &[u8]) {
        bytes.iter().rev().for_each(|&byte| self.output.push_front(byte));
    }

    /// What packet mode has to tell, which is then told.
    pub(super) const fn take_status(&mut self) -> u8 {
        core::mem::replace(&mut self.status, 0)
    }

    pub(super) const fn has_status(&self) -> bool {
        self.status != 0
    }

    pub(super) fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.takes_literally = false;
        self.status |= packet::FLUSHREAD;
    }

    /// Output that has not left the terminal is forgotten. It leaves at once, so there is none, but packet mode tells.
    pub(super) const fn flush_output(&mut self) {
        self.status |= packet::FLUSHWRITE;
    }

    /// Nothing is written any more until [`Line::start`].
    pub(super) const fn stop(&mut self) {
        if !self.is_stopped {
            self.is_stopped = true;
            self.status = (self.status & !packet::START) | packet::STOP;
        }
    }

    pub(super) const fn start(&mut self) {
        if self.is_stopped {
            self.is_stopped = false;
            self.status = (self.status & !packet::STOP) | packet::START;
        }
    }

    /// A program writes a byte.
    pub(super) fn write(&mut self, byte: u8) {
        if self.termios.output(OutputFlags::OPOST) {
            self.process_output(byte);
        } else {
            self.output.push_back(byte);
        }
    }

    fn process_output(&mut self, byte: u8) {
        let has = |flag| self.termios.output(flag);
        let mut byte = byte;
        match byte {
            b'\n' => {
                if has(OutputFlags::ONLRET) {
                    self.column = 0;
                }
                if has(OutputFlags::ONLCR) {
                    self.column = 0;
                    self.output.push_back(b'\r');
                }
            }
            b'\r' => {
                if has(OutputFlags::ONOCR) && self.column == 0 {
                    return;
                }
                if has(OutputFlags::OCRNL) {
                    byte = b'\n';
                    if has(OutputFlags::ONLRET) {
                        self.column = 0;
                    }
                } else {
                    self.column = 0;
                }
            }
            b'\t' => {
                let spaces = TAB - self.column % TAB;
                self.column += spaces;
                if self.termios.c_oflag & OutputFlags::XTABS.bits() == OutputFlags::XTABS.bits() {
                    self.output.extend(core::iter::repeat_n(b' ', spaces));
                    return;
                }
            }
            BACKSPACE => self.column = self.column.saturating_sub(1),
            _ => {
                if has(OutputFlags::OLCUC) {
                    byte = byte.to_ascii_uppercase();
                }
                if !byte.is_ascii_control() && !self.is_continuation(byte) {
                    self.column += 1;
                }
            }
        }
        self.output.push_back(byte);
    }

    /// Whether a byte continues a character of UTF-8.
    const fn is_continuation(&self, byte: u8) -> bool {
        self.termios.input(InputFlags::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Bytes are typed together from now on.
    pub(super) fn begin_typing(&mut self) {
        self.echo_start = self.output.len();
    }

    /// A byte is typed. Returns the signal that it means.
    pub(super) fn type_byte(&mut self, byte: u8) -> Option<Signal> {
        let mut byte = byte;
        if self.termios.input(InputFlags::ISTRIP) {
            byte &= 0x7f;
        }
        if self.termios.input(InputFlags::IUCLC) && self.termios.local(LocalFlags::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if core::mem::replace(&mut self.takes_literally, false) {
            self.accept(byte);
            return None;
        }
        let is = |line: &Self, index| byte != 0 && line.termios.control(index) == byte;
        if self.termios.input(InputFlags::IXON) {
            if is(self, control::VSTART) {
                self.start();
                return None;
            }
            if is(self, control::VSTOP) {
                self.stop();
                return None;
            }
        }
        if self.termios.local(LocalFlags::ISIG) {
            for (index, signal) in [
                (control::VINTR, Signal::SIGINT),
                (control::VQUIT, Signal::SIGQUIT),
                (control::VSUSP, Signal::SIGTSTP),
            ] {
                if is(self, index) {
                    self.signal(byte);
                    return Some(signal);
                }
            }
        }
        if self.termios.input(InputFlags::IXON) && self.termios.input(InputFlags::IXANY) {
            self.start();
        }
        match byte {
            b'\r' if self.termios.input(InputFlags::IGNCR) => return None,
            b'\r' if self.termios.input(InputFlags::ICRNL) => byte = b'\n',
            b'\n' if self.termios.input(InputFlags::INLCR) => byte = b'\r',
            _ => {}
        }
        if !(self.is_canonical() && self.edit(byte)) {
            self.accept(byte);
        }
        None
    }

    /// A character that means a signal: what was typed before it is forgotten, and the echo of what was typed with it.
    fn signal(&mut self, byte: u8) {
        if !self.termios.local(LocalFlags::NOFLSH) {
            self.output.truncate(self.echo_start);
            self.flush_output();
            self.flush_input();
        }
        if self.termios.input(InputFlags::IXON) {
            self.start();
        }
        self.echo(byte);
    }

    /// What a byte does to a line that is edited. False: it is an ordinary one.
    fn edit(&mut self, byte: u8) -> bool {
        let is = |index| byte != 0 && self.termios.control(index) == byte;
        let is_extended = self.termios.local(LocalFlags::IEXTEN);
        if is(control::VERASE) {
            self.erase(Erase::Character);
        } else if is(control::VKILL) {
            self.erase(Erase::Line);
        } else if is_extended && is(control::VWERASE) {
            self.erase(Erase::Word);
        } else if is_extended && is(control::VLNEXT) {
            self.takes_literally = true;
            if self.echoes() && self.termios.local(LocalFlags::ECHOCTL) {
                self.output.extend(*b"^\x08");
            }
        } else if is_extended && self.echoes() && is(control::VREPRINT) {
            self.echo(byte);
            self.write(b'\n');
            let pending: Vec<u8> = self.input.iter().skip(self.complete).map(|cell| cell.0).collect();
            pending.into_iter().for_each(|byte| self.echo(byte));
        } else if byte == b'\n' {
            if self.echoes() || self.termios.local(LocalFlags::ECHONL) {
                self.write(b'\n');
            }
            self.end_line(byte, Mark::End);
        } else if is(control::VEOF) {
            self.end_line(0, Mark::Eof);
        } else if is(control::VEOL) || (is_extended && is(control::VEOL2)) {
            self.echo(byte);
            self.end_line(byte, Mark::End);
        } else {
            return false;
        }
        true
    }

    const fn echoes(&self) -> bool {
        self.termios.local(LocalFlags::ECHO)
    }

    /// Whether a byte is shown as `^X`.
    const fn is_shown_as_control(&self, byte: u8) -> bool {
        self.termios.local(LocalFlags::ECHOCTL) && byte.is_ascii_control() && byte != b'\t'
    }

    fn echo(&mut self, byte: u8) {
        if !self.echoes() {
            return;
        }
        if self.is_shown_as_control(byte) {
            self.write(b'^');
            self.write(byte ^ 0x40);
        } else {
            self.write(byte);
        }
    }

    /// An ordinary byte of input.
    fn accept(&mut self, byte: u8) {
        if self.is_canonical() && self.input.len() - self.complete >= LINE_MAX - 1 {
            if self.termios.input(InputFlags::IMAXBEL) {
                self.output.push_back(BELL);
            }
            return;
        }
        if self.input.len() == self.complete {
            self.line_column = self.column;
        }
        if byte == b'\n' && self.echoes() {
            self.write(b'\n');
        } else {
            self.echo(byte);
        }
        self.input.push_back((byte, Mark::None));
    }

    fn end_line(&mut self, byte: u8, mark: Mark) {
        self.input.push_back((byte, mark));
        self.complete = self.input.len();
    }

    fn erase(&mut self, what: Erase) {
        if self.input.len() == self.complete {
            return;
        }
        let has = |flag| self.termios.local(flag);
        if what == Erase::Line
            && !(self.echoes() && has(LocalFlags::ECHOK) && has(LocalFlags::ECHOKE) && has(LocalFlags::ECHOE))
        {
            self.input.truncate(self.complete);
            self.echo(self.termios.control(control::VKILL));
            if self.echoes() && self.termios.local(LocalFlags::ECHOK) {
                self.write(b'\n');
            }
            return;
        }
        let mut is_in_word = false;
        while self.input.len() > self.complete {
            let Some(&(byte, _)) = self.input.back() else { break };
            if what == Erase::Word {
                let is_word = byte.is_ascii_alphanumeric() || byte == b'_';
                if is_in_word && !is_word {
                    break;
                }
                is_in_word |= is_word;
            }
            self.input.pop_back();
            if self.is_continuation(byte) {
                continue;
            }
            if self.echoes() {
                self.show_erased(byte, what);
            }
            if what == Erase::Character {
                break;
            }
        }
    }

    /// Takes a character off the screen.
    fn show_erased(&mut self, byte: u8, what: Erase) {
        if what == Erase::Character && !self.termios.local(LocalFlags::ECHOE) {
            self.echo(self.termios.control(control::VERASE));
            return;
        }
        if byte == b'\t' {
            let before = self.input.iter().skip(self.complete).fold(
                self.line_column,
                |column, &(byte, _)| match byte {
                    b'\t' => column + TAB - column % TAB,
                    _ if self.is_shown_as_control(byte) => column + 2,
                    _ if byte.is_ascii_control() || self.is_continuation(byte) => column,
                    _ => column + 1,
                },
            );
            let width = self.column.saturating_sub(before).min(TAB);
            self.output.extend(core::iter::repeat_n(BACKSPACE, width));
            self.column = self.column.saturating_sub(width);
            return;
        }
        let width = if self.is_shown_as_control(byte) {
            2
        } else if byte.is_ascii_control() {
            0
        } else {
            1
        };
        for _ in 0..width {
            self.output.extend(*b"\x08 \x08");
            self.column = self.column.saturating_sub(1);
        }
    }
}
