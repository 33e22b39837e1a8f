//! How a row of the catalogue is written: against which server an attack is made, in which way, and what differs by pool
//! and kind of handler.

use super::LITTLE;
use crate::demo::attack::{Attack, Expected, Make, On, Way};
use crate::demo::verdict::{Got, NOTHING_TO_FIND};

pub(super) const fn on(
    on: On,
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    Attack { name, tries, way: Way::Request(on, Expected::new(got, by)) }
}

pub(super) const fn hostile(
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    on(On::Hostile, name, tries, got, by)
}

pub(super) const fn read_only(name: &'static str, tries: &'static str) -> Attack {
    on(On::ReadOnly, name, tries, Got::Blocked, "monitor")
}

pub(super) const fn http(
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    on(On::Http, name, tries, got, by)
}

pub(super) const fn service(
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    on(On::Service, name, tries, got, by)
}

pub(super) const fn command(
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    on(On::Command, name, tries, got, by)
}

/// One that is refused nothing, and finds nothing.
pub(super) const fn looks(name: &'static str, tries: &'static str) -> Attack {
    hostile(name, tries, Got::Nothing, NOTHING_TO_FIND)
}

/// One that looks for what it planted in an earlier request.
pub(super) const fn planted(name: &'static str, tries: &'static str) -> Attack {
    Attack { name, tries, way: Way::Planted(Expected::new(Got::Nothing, NOTHING_TO_FIND)) }
}

pub(super) const fn load(
    name: &'static str,
    tries: &'static str,
    make: Make,
    why: &'static str,
) -> Attack {
    Attack { name, tries, way: Way::Load(make, why) }
}

pub(super) const fn compile(
    name: &'static str,
    tries: &'static str,
    make: Make,
    why: &'static str,
) -> Attack {
    Attack { name, tries, way: Way::Compile(make, LITTLE, why) }
}

pub(super) const fn escaped(name: &'static str, tries: &'static str, by: &'static str) -> Attack {
    on(On::Escaped, name, tries, Got::Blocked, by)
}

pub(super) const fn thread_differs(mut attack: Attack, got: Got, by: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.thread = Some((got, by));
    }
    attack
}

pub(super) const fn command_differs(mut attack: Attack, got: Got, by: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.command = Some((got, by));
    }
    attack
}

/// One that only a worker process can make: a thread shares no socket with anybody.
pub(super) const fn by_process(
    name: &'static str,
    tries: &'static str,
    got: Got,
    by: &'static str,
) -> Attack {
    thread_differs(on(On::Escaped, name, tries, got, by), Got::NotApplicable, "")
}

/// One of which this must be seen, too.
pub(super) const fn shown_by(mut attack: Attack, sign: &'static str) -> Attack {
    if let Way::Request(_, expected) = &mut attack.way {
        expected.sign = sign;
    }
    attack
}
