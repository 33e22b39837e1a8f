//! What the demo shows: a table, or JSON.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::bail;

use super::Row;

/// What is shown to whoever runs the demo.
pub(super) struct Shown {
    json: bool,
    colours: bool,
    rows: usize,
    faults: usize,
    stopped: usize,
    open: usize,
    not_applicable: usize,
}

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        let colours = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colours, rows: 0, faults: 0, stopped: 0, open: 0, not_applicable: 0 }
    }

    /// Begins a table.
    pub(super) fn heading(&self, text: &str) {
        if !self.json {
            print(&format!(
                "\n{text}\n  {:7} {:26} {:15} {:>7} {:>7}  what was got\n",
                "", "attack", "stopped by", "took", "good"
            ));
        }
    }

    pub(super) fn row(&mut self, row: &Row) {
        self.rows += 1;
        let fault = row.fault.as_ref().or(row.late.as_ref());
        let (mark, colour, count) = match row {
            Row { fault: Some(_), .. } => ("THROUGH", "31", &mut self.faults),
            Row { late: Some(_), .. } => ("LATE", "31", &mut self.faults),
            Row { not_applicable: true, .. } => ("n/a", "33", &mut self.not_applicable),
            Row { not_promised: true, .. } => ("open", "33", &mut self.open),
            Row { .. } => ("stopped", "32", &mut self.stopped),
        };
        // What is looked at after attacks is none.
        *count += usize::from(fault.is_some() || !row.is_check);
        if self.json {
            let row = serde_json::to_string(row).unwrap_or_default();
            print(&format!("{}\n", printable::json(&row)));
            return;
        }
        let mark = match self.colours {
            true => format!("\x1b[{colour}m{mark:7}\x1b[0m"),
            false => format!("{mark:7}"),
        };
        let by = if row.stopped_by.is_empty() { "-" } else { &row.stopped_by };
        let good = row.good_milliseconds.map_or("-".into(), |good| format!("{good} ms"));
        let took = format!("{} ms", row.milliseconds);
        let got: String = printable::line(&row.got).chars().take(60).collect();
        print(&format!("  {mark} {:26} {by:15} {took:>7} {good:>7}  {got}\n", row.attack));
        if let Some(fault) = fault {
            print(&format!("          {} {}\n", row.tries, printable::line(fault)));
        }
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        let Self { rows, faults, stopped, open, not_applicable, .. } = self;
        if faults > 0 {
            bail!("{faults} of {rows} attacks did not end as they must");
        }
        if !self.json {
            print(&format!(
                "\nall {} attacks ended as they must: {stopped} stopped, {open} open; \
                 {not_applicable} more are not applicable\n",
                stopped + open
            ));
        }
        Ok(())
    }
}

/// Shows the names of attacks, with what each tries.
pub(super) fn list(attacks: impl Iterator<Item = (String, &'static str)>, json: bool) {
    for (attack, tries) in attacks {
        match json {
            true => {
                print(&format!("{}\n", serde_json::json!({ "attack": attack, "tries": tries })))
            }
            false => print(&format!("{attack:26} {tries}\n")),
        }
    }
}

fn print(text: &str) {
    // Whoever closes standard output has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
