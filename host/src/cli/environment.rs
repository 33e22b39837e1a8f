//! The variables `SWAPBOX_*`: which of them are options, and which are passed over.
//!
//! One that is empty counts as not set. Kubernetes sets variables of its own for a service that is
//! called `swapbox`, or begins so; they are no options, whatever their names. What else no option
//! has is a slip of the pen.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use crate::config::nearest;

/// How the variables of options begin.
const OURS: &str = "SWAPBOX_";

/// The protocols of Kubernetes' services.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// What is not taken from the environment.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// Variables of options that do not count.
    passed_over: BTreeSet<OsString>,
    /// What there is to say of those that are passed over, a line for each.
    pub(crate) warnings: Vec<String>,
}

impl Environment {
    /// Looks at all variables, of which these are options'.
    pub(crate) fn of(
        variables: impl Iterator<Item = (OsString, OsString)>,
        options: &BTreeSet<OsString>,
    ) -> Self {
        let mut all = Self::default();
        let mut of_services = BTreeSet::new();
        for (name, value) in variables {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(OURS)) else {
                continue;
            };
            if value.is_empty() {
                all.passed_over.insert(name);
            } else if is_of_service(rest, &value) {
                of_services.insert(format!("{OURS}{rest}"));
                all.passed_over.insert(name);
            } else if !options.contains(&name) {
                all.warnings.push(unknown(rest, options));
            }
        }
        all.warnings.sort();
        if !of_services.is_empty() {
            let names: Vec<_> = of_services.into_iter().collect();
            all.warnings.push(format!(
                "passed over, since Kubernetes sets such variables for a service: {}; \
                 with `enableServiceLinks: false` in the pod it sets none",
                names.join(", ")
            ));
        }
        all
    }

    /// The command without the variables that do not count.
    pub(crate) fn apply(&self, command: clap::Command) -> clap::Command {
        command
            .mut_args(|arg| match arg.get_env() {
                Some(name) if self.passed_over.contains(name) => arg.env(None::<&'static str>),
                _ => arg,
            })
            .mut_subcommands(|command| self.apply(command))
    }
}

/// Whether Kubernetes sets a variable for a service, as Docker's links did.
fn is_of_service(rest: &str, value: &OsStr) -> bool {
    let ends = |end: &str| rest == end || rest.ends_with(&format!("_{end}"));
    if ends("SERVICE_HOST") || ends("SERVICE_PORT") || rest.contains("SERVICE_PORT_") {
        return true;
    }
    let value = value.to_string_lossy().to_ascii_uppercase();
    let is_url = PROTOCOLS.iter().any(|protocol| value.starts_with(&format!("{protocol}://")));
    if ends("PORT") && is_url {
        return true;
    }
    // Such as SWAPBOX_PORT_8885_TCP and SWAPBOX_PORT_8885_TCP_ADDR.
    let parts: Vec<_> = rest.split('_').collect();
    parts.windows(3).any(|three| match three {
        [port, number, protocol] => {
            *port == "PORT" && number.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol)
        }
        _ => false,
    })
}

/// That no option has a variable, and which may have been meant.
fn unknown(rest: &str, options: &BTreeSet<OsString>) -> String {
    let names = options.iter().filter_map(|name| name.to_str()?.strip_prefix(OURS));
    match nearest(rest, names) {
        Some(name) => format!("{OURS}{rest} is the variable of no option; is {OURS}{name} meant?"),
        None => {
            format!("{OURS}{rest} is the variable of no option; `host --help` lists the options")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let options = ["SWAPBOX_PORT", "SWAPBOX_WORKERS", "SWAPBOX_MAX_WORKERS", "SWAPBOX_ADDR"];
        let options = options.into_iter().map(Into::into).collect();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Environment::of(variables, &options)
    }

    #[test]
    fn variables_of_services_are_passed_over_with_one_warning() {
        let set = environment(&[
            ("SWAPBOX_SERVICE_HOST", "10.43.1.2"),
            ("SWAPBOX_SERVICE_PORT", "8885"),
            ("SWAPBOX_SERVICE_PORT_HTTP", "8885"),
            ("SWAPBOX_PORT", "tcp://10.43.1.2:8885"),
            ("SWAPBOX_PORT_8885_TCP", "tcp://10.43.1.2:8885"),
            ("SWAPBOX_PORT_8885_TCP_PROTO", "tcp"),
            ("SWAPBOX_PORT_8885_TCP_PORT", "8885"),
            ("SWAPBOX_PORT_8885_TCP_ADDR", "10.43.1.2"),
            ("SWAPBOX_ADMIN_SERVICE_HOST", "10.43.1.3"),
            ("SWAPBOX_ADMIN_PORT", "udp://10.43.1.3:9090"),
            ("OTHER_PORT", "tcp://10.43.1.2:8885"),
        ]);
        assert_eq!(set.passed_over.len(), 10);
        let [warning] = set.warnings.as_slice() else { panic!("{:?}", set.warnings) };
        assert!(warning.contains("SWAPBOX_PORT, SWAPBOX_PORT_8885_TCP,"), "{warning}");
        assert!(!warning.contains("OTHER"), "{warning}");
    }

    #[test]
    fn the_port_of_an_option_counts() {
        let set = environment(&[("SWAPBOX_PORT", "8885"), ("SWAPBOX_WORKERS", "3")]);
        assert!(set.passed_over.is_empty() && set.warnings.is_empty(), "{set:?}");
    }

    #[test]
    fn empty_variables_count_as_not_set() {
        let set = environment(&[("SWAPBOX_WORKERS", ""), ("SWAPBOX_WORKRES", "")]);
        assert!(set.passed_over.contains(OsStr::new("SWAPBOX_WORKERS")));
        assert!(set.warnings.is_empty(), "{set:?}");
    }

    #[test]
    fn a_variable_of_no_option_is_told_of_with_the_nearest() {
        for (name, expected) in [
            ("SWAPBOX_WORKRES", "is SWAPBOX_WORKERS meant?"),
            ("SWAPBOX_MAXWORKERS", "is SWAPBOX_MAX_WORKERS meant?"),
            ("SWAPBOX_XYZ", "`host --help` lists the options"),
        ] {
            let set = environment(&[(name, "1")]);
            let [warning] = set.warnings.as_slice() else { panic!("{:?}", set.warnings) };
            assert!(warning.starts_with(name) && warning.ends_with(expected), "{warning}");
        }
    }
}
