//! What a client takes, as its Accept field says.

/// Whether an Accept field names this media type, and does not turn it down. Wildcards name nothing.
pub(super) fn names(accept: &str, media_type: &str) -> bool {
    let names_it = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(media_type));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_it && quality.is_none_or(|quality| quality.parse().is_ok_and(|q: f32| q > 0.0))
    };
    accept.split(',').any(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_named_or_not() {
        for (accept, expected) in [
            ("text/html", true),
            ("text/plain, TEXT/HTML;charset=utf-8;q=0.5", true),
            ("text/html;q=0", false),
            ("text/html;q=0.0", false),
            ("text/html;q=x", false),
            ("text/*, */*", false),
            ("text/htmlx", false),
            ("", false),
        ] {
            assert_eq!(names(accept, "text/html"), expected, "{accept}");
        }
    }
}
