//! Dates in header fields: RFC 9110, section 5.6.7.

use alloc::format;
use alloc::string::String;

const DAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The last second of the year 9999, with which the format ends.
const LAST: u64 = 253_402_300_799;

const DAY: u64 = 24 * 60 * 60;

/// The preferred form of a time in seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(seconds: u64) -> String {
    let seconds = seconds.min(LAST);
    let (days, time) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    // By hand, as the entity tag.
    let mut date = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    date[..3].copy_from_slice(&DAYS[days as usize % 7].as_bytes()[..3]);
    date[8..11].copy_from_slice(MONTHS[month as usize - 1].as_bytes());
    let (century, year) = (year / 100, year % 100);
    for (at, number) in
        [(5, day), (12, century), (14, year), (17, hour), (20, minute), (23, second)]
    {
        date[at] = b'0' + (number / 10) as u8;
        date[at + 1] = b'0' + (number % 10) as u8;
    }
    String::from_utf8_lossy(&date).into_owned()
}

/// Seconds since 1970 of a date in any of the three forms; `None` for what is no date, or one
/// that never was.
pub fn seconds(date: &str) -> Option<u64> {
    let date = preferred(date)?;
    let number = |range| date.get(range).and_then(|digits: &str| digits.parse::<u64>().ok());
    let month = MONTHS.iter().position(|name| date.get(8..11) == Some(*name))? as u64 + 1;
    let days = days(number(12..16)?, month, number(5..7)?)?;
    let time = 3600 * number(17..19)? + 60 * number(20..22)? + number(23..25)?;
    let seconds = days * DAY + time;
    // Not one digit or letter is other than it should be.
    (http_date(seconds) == date).then_some(seconds)
}

/// A date in the preferred form, as far as it has one of the three.
fn preferred(date: &str) -> Option<String> {
    if let Some((weekday, rest)) = date.split_once(", ") {
        let abbreviated = weekday.get(..3)?;
        if weekday == abbreviated {
            return Some(date.into());
        }
        // RFC 850: `Sunday, 06-Nov-94 08:49:37 GMT`.
        let (day, month, year, time) =
            (rest.get(..2)?, rest.get(3..6)?, rest.get(7..9)?, rest.get(9..)?);
        if !DAYS.contains(&weekday) || rest.get(2..3)? != "-" || rest.get(6..7)? != "-" {
            return None;
        }
        let century = if year.parse::<u8>().ok()? < 70 { "20" } else { "19" };
        return Some(format!("{abbreviated}, {day} {month} {century}{year}{time}"));
    }
    // asctime: `Sun Nov  6 08:49:37 1994`.
    let (weekday, month, day) = (date.get(..3)?, date.get(4..7)?, date.get(8..10)?);
    let (time, year) = (date.get(11..19)?, date.get(20..)?);
    let day: u8 = day.trim_start_matches(' ').parse().ok()?;
    let preferred = format!("{weekday}, {day:02} {month} {year} {time} GMT");
    (date == format!("{weekday} {month} {day:2} {time} {year}")).then_some(preferred)
}

/// Days since 1970 of a day of the Gregorian calendar. Years are counted from March on, so
/// that a leap day is the last of its year, and in eras of 400, which are all the same.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, year) = (year / 400, year % 400);
    let day = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = 365 * year + year / 4 - year / 100 + day;
    (146_097 * era + days).checked_sub(719_468)
}

/// The inverse of [`days`]: year, month and day.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, days) = (days / 146_097, days % 146_097);
    let year = (days - days / 1_460 + days / 36_524 - days / 146_096) / 365;
    let days = days - (365 * year + year / 4 - year / 100);
    let month = (5 * days + 2) / 153;
    let day = days - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (400 * era + year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    /// What a crate that needs the standard library says.
    fn theirs(date: &str) -> Option<u64> {
        let time = httpdate::parse_http_date(date).ok()?;
        time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }

    #[test]
    fn all_three_forms_are_understood() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds(date), Some(784_111_777), "{date}");
        }
        for date in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun Nov 06 08:49:37 1994",
            "Su\u{e4}, 06 Nov",
            "yesterday",
            "",
        ] {
            assert_eq!(seconds(date), None, "{date}");
        }
    }

    proptest! {
        #[test]
        fn dates_are_written_and_read_as_others_do(time in 0..=LAST) {
            let date = http_date(time);
            let system = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            prop_assert_eq!(&date, &httpdate::fmt_http_date(system));
            prop_assert_eq!(seconds(&date), Some(time));
        }

        #[test]
        fn other_forms_are_read_as_others_do_or_not_at_all(
            // Until 2070, which in two digits is 1970.
            time in 0..3_155_760_000u64, form in 0..3, at in 0..40usize, with in "[ -~\u{e4}]?"
        ) {
            let date = http_date(time);
            let (weekday, day, month) = (time / DAY % 7, &date[5..7], &date[8..11]);
            let date = match form {
                0 => date,
                1 => format!("{}, {day}-{month}-{}", DAYS[weekday as usize], &date[14..]),
                _ => format!("{} {month} {:2} {} {}", &date[..3], day.parse::<u8>().unwrap(),
                    &date[17..25], &date[12..16]),
            };
            let mut changed = date.clone();
            if at < changed.len() {
                changed.replace_range(at..at + 1, &with);
            }
            prop_assert_eq!(seconds(&date), Some(time), "{}", date);
            prop_assert_eq!(theirs(&date), Some(time), "{}", date);
            if let Some(time) = seconds(&changed) {
                prop_assert_eq!(theirs(&changed), Some(time), "{}", changed);
            }
        }
    }
}
