//! What goes wrong at a TPM's commands, and when.

/// A command, by its code (TPM 2.0 part 2 section 6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Command {
    /// `TPM2_CreatePrimary`
    CreatePrimary = 0x131,
    /// `TPM2_PolicySecret`: how a key's authorisation value is tried.
    PolicySecret = 0x151,
    /// `TPM2_Create`
    Create = 0x153,
    /// `TPM2_Load`
    Load = 0x157,
    /// `TPM2_Sign`
    Sign = 0x15d,
    /// `TPM2_ReadPublic`
    ReadPublic = 0x173,
    /// `TPM2_StartAuthSession`
    StartAuthSession = 0x176,
}

/// A response code (TPM 2.0 part 2 section 6.6.3). In format one those about a handle, a parameter or a session
/// are told with its number, here the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rc(pub u32);

#[expect(missing_docs, reason = "the specification's names: TPM_RC_…")]
impl Rc {
    pub const INITIALIZE: Self = Self(0x100);
    pub const FAILURE: Self = Self(0x101);
    pub const CONTEXT_GAP: Self = Self(0x901);
    pub const OBJECT_MEMORY: Self = Self(0x902);
    pub const SESSION_MEMORY: Self = Self(0x903);
    pub const YIELDED: Self = Self(0x908);
    pub const TESTING: Self = Self(0x90a);
    pub const REFERENCE_H0: Self = Self(0x910);
    pub const REFERENCE_S0: Self = Self(0x918);
    pub const LOCKOUT: Self = Self(0x921);
    pub const RETRY: Self = Self(0x922);
    /// `TPM_RC_HANDLE` of the first handle.
    pub const HANDLE: Self = Self(0x18b);
    /// `TPM_RC_VALUE` of the first handle: nothing is loaded there.
    pub const VALUE_OF_HANDLE: Self = Self(0x184);
    /// `TPM_RC_INTEGRITY` of the first parameter.
    pub const INTEGRITY: Self = Self(0x1df);
    /// `TPM_RC_BAD_AUTH` of the first session.
    pub const BAD_AUTH: Self = Self(0x9a2);
    /// A code that is a vendor's own.
    pub const VENDOR: Self = Self(0x500);
}

/// What a rule does to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Answer(Rc),
    Reset,
    Resume,
    HangUp,
    LoseAnswer,
    Garble,
    Flip(usize),
    Block,
    Extend(u8),
}

/// One thing that goes wrong. The first `after` commands that it is for pass; of those that follow each is struck,
/// `times` times or until the rule is removed.
#[derive(Clone, Debug)]
#[must_use = "say what it does, and add it"]
pub struct Rule {
    pub(super) on: Option<Command>,
    pub(super) after: u64,
    pub(super) times: Option<u64>,
    pub(super) action: Action,
}

/// A rule without what it does.
#[derive(Clone, Debug)]
#[must_use = "say what happens"]
pub struct When {
    on: Option<Command>,
    after: u64,
    times: Option<u64>,
}

/// A rule for this command.
pub fn on(command: Command) -> When {
    When { on: Some(command), after: 0, times: None }
}

/// A rule for all commands.
pub fn any() -> When {
    When { on: None, after: 0, times: None }
}

impl When {
    /// So many pass first.
    pub fn after(self, after: u64) -> Self {
        Self { after, ..self }
    }

    /// So many are struck.
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// One is struck.
    pub fn once(self) -> Self {
        self.times(1)
    }

    fn does(self, action: Action) -> Rule {
        Rule { on: self.on, after: self.after, times: self.times, action }
    }

    /// The TPM does not hear of the command: this is the answer.
    pub fn answers(self, code: Rc) -> Rule {
        self.does(Action::Answer(code))
    }

    /// The machine is reset before the TPM hears of the command: no `TPM2_Shutdown`, `TPM2_Startup(CLEAR)`.
    pub fn resets(self) -> Rule {
        self.does(Action::Reset)
    }

    /// The machine sleeps and wakes before the TPM hears of the command: `TPM2_Shutdown(STATE)`,
    /// `TPM2_Startup(STATE)`.
    pub fn resumes(self) -> Rule {
        self.does(Action::Resume)
    }

    /// The connection ends before the TPM hears of the command.
    pub fn hangs_up(self) -> Rule {
        self.does(Action::HangUp)
    }

    /// The TPM does what it was told, and the connection ends before its answer.
    pub fn loses_the_answer(self) -> Rule {
        self.does(Action::LoseAnswer)
    }

    /// The TPM does what it was told, and only the answer's header arrives in one piece.
    pub fn garbles(self) -> Rule {
        self.does(Action::Garble)
    }

    /// The TPM does what it was told, and the lowest bit of this byte of its answer is another one.
    pub fn flips(self, byte: usize) -> Rule {
        self.does(Action::Flip(byte))
    }

    /// Somebody else extends this PCR (SHA-256 bank) before the TPM hears of the command.
    pub fn extends(self, pcr: u8) -> Rule {
        self.does(Action::Extend(pcr))
    }

    /// There is no answer as long as the rule is there; then the connection ends.
    pub fn blocks(self) -> Rule {
        self.does(Action::Block)
    }
}
