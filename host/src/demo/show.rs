//! What the demo shows: a table, or JSON.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::bail;

use super::Row;
use crate::printable;

/// What is shown to whoever runs the demo.
pub(super) struct Shown {
    json: bool,
    colours: bool,
    attacks: usize,
    faults: usize,
}

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        let colours = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colours, attacks: 0, faults: 0 }
    }

    pub(super) fn heading(&self, text: &str) {
        if !self.json {
            print(&format!("\n{text}\n"));
        }
    }

    pub(super) fn row(&mut self, row: &Row) {
        self.attacks += 1;
        let fault = row.fault.as_ref().or(row.late.as_ref());
        self.faults += usize::from(fault.is_some());
        if self.json {
            let row = serde_json::to_string(row).unwrap_or_default();
            print(&format!("{}\n", printable::json(&row)));
            return;
        }
        let (mark, colour) = match row {
            Row { fault: Some(_), .. } => ("THROUGH", "31"),
            Row { late: Some(_), .. } => ("LATE", "31"),
            Row { not_promised: true, .. } => ("open", "33"),
            Row { .. } => ("stopped", "32"),
        };
        let mark = match self.colours {
            true => format!("\x1b[{colour}m{mark:7}\x1b[0m"),
            false => format!("{mark:7}"),
        };
        let serving = if row.serving { "serving" } else { "NOT SERVING" };
        let got: String = printable::line(&row.got).chars().take(60).collect();
        print(&format!(
            "  {mark} {:26} {:15} {:>5} ms  {serving}  {got}\n",
            row.attack, row.stopped_by, row.milliseconds
        ));
        if let Some(fault) = fault {
            print(&format!("          {} {}\n", row.tries, printable::line(fault)));
        }
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        if self.faults > 0 {
            bail!("{} of {} attacks did not end as they must", self.faults, self.attacks);
        }
        if !self.json {
            print(&format!("\nall {} attacks ended as they must\n", self.attacks));
        }
        Ok(())
    }
}

fn print(text: &str) {
    // Whoever closes standard output has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
