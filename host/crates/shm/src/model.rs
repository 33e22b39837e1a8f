//! Where a model check has other threads go on: before each access to a ledger. Built only for it.

use std::cell::Cell;

thread_local! {
    static SWITCH: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Has this thread call `switch` before each access to a ledger from now on.
pub fn before_each_access(switch: fn()) {
    SWITCH.set(Some(switch));
}

pub(crate) fn access() {
    if let Some(switch) = SWITCH.get() {
        switch();
    }
}
