//! Which name was meant by one that there is not.

/// How similar two names are that may have been mixed up, from 0 to 1: clap's own measure.
const SIMILAR: f64 = 0.7;

/// The name most like `unknown`, if one is like it at all.
pub(crate) fn nearest<'a>(
    unknown: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let similar = names.into_iter().map(|name| (strsim::jaro(unknown, name), name));
    let nearest = similar.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.filter(|(how, _)| *how > SIMILAR).map(|(_, name)| name)
}
