//! Object handles that can be lost: each is shown with the number of times that all were lost before,
//! in its upper half.

use std::sync::atomic::{AtomicU64, Ordering};

use cryptoki_sys::CK_OBJECT_HANDLE;

const SHIFT: u32 = 32;

/// Translates between the real module's handles and those that callers see.
#[derive(Default)]
pub(super) struct Handles(AtomicU64);

impl Handles {
    /// The real handle; `None` for one that was lost. A handle that never was one is left to the real
    /// module's judgement.
    pub(super) fn real(&self, shown: CK_OBJECT_HANDLE) -> Option<CK_OBJECT_HANDLE> {
        let (epoch, real) = (shown >> SHIFT, shown & ((1 << SHIFT) - 1));
        (epoch == self.0.load(Ordering::SeqCst)).then_some(real)
    }

    /// The handle to show.
    pub(super) fn shown(&self, real: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        real | (self.0.load(Ordering::SeqCst) << SHIFT)
    }

    /// All that were shown until now are lost.
    pub(super) fn lose(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_handles_are_lost_and_new_ones_are_not() {
        let handles = Handles::default();
        let first = handles.shown(7);
        assert_eq!(handles.real(first), Some(7));
        handles.lose();
        assert_eq!(handles.real(first), None);
        assert_eq!(handles.real(handles.shown(7)), Some(7));
    }
}
