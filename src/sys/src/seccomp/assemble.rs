//! Assembling a decision tree into classic BPF, from its end: a jump goes forward and its target is
//! then known. Jumps reach 255 instructions; farther targets get a long jump of their own.

/// One instruction, as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) value: u32,
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// How far a conditional jump goes, with room for the long jumps that may come between.
const REACH: usize = 250;

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// What a conditional jump asks of the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u32),
    Greater(u32),
    GreaterEqual(u32),
}

/// The program so far, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// A place where `action` is returned; one that exists is used again when it is near enough.
    pub(super) fn give(&mut self, action: u32) -> Label {
        let near = |label: Label| self.code.len() - label.0 < REACH / 2;
        if let Some((_, label)) =
            self.returns.iter().rev().find(|(known, label)| *known == action && near(*label))
        {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, action);
        self.returns.push((action, label));
        label
    }

    /// Goes to `yes` or `no`.
    pub(super) fn branch(&mut self, test: Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.bring_near(yes);
        let no = self.bring_near(no);
        // The second long jump may have pushed the first target out of the first one's distance by one.
        let (code, value) = match test {
            Test::Equal(value) => (JUMP_EQUAL, value),
            Test::Greater(value) => (JUMP_GREATER, value),
            Test::GreaterEqual(value) => (JUMP_GREATER_EQUAL, value),
        };
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.push(code, yes, no, value)
    }

    /// Loads the word at `offset` of `seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Keeps the bits of `mask`, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(AND, 0, 0, mask)
    }

    /// The instructions, first to last, entered at `start`.
    pub(super) fn finish(mut self, start: Label) -> Vec<Instruction> {
        self.fall_into(start);
        self.code.reverse();
        self.code
    }

    fn fall_into(&mut self, next: Label) {
        if next.0 + 1 != self.code.len() {
            let distance = self.code.len() - next.0 - 1;
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX));
        }
    }

    fn bring_near(&mut self, label: Label) -> Label {
        let distance = self.code.len() - label.0 - 1;
        if distance < REACH {
            return label;
        }
        self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    fn distance(&self, label: Label) -> u8 {
        u8::try_from(self.code.len() - label.0 - 1).unwrap_or(u8::MAX)
    }

    fn push(&mut self, code: u16, yes: u8, no: u8, value: u32) -> Label {
        self.code.push(Instruction { code, yes, no, value });
        Label(self.code.len() - 1)
    }
}
