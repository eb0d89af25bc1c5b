//! "Did you mean": the nearest name.

/// `, did you mean ...?`, or nothing when no name is near.
pub(super) fn among<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let limit = (wrong.len() / 3).clamp(1, 4);
    let near = names.filter_map(|name| Some((distance(wrong, name, limit)?, name)));
    near.min().map_or_else(String::new, |(_, name)| format!(", did you mean `{name}`?"))
}

/// Edits between two names regardless of case; `None` beyond `limit`.
fn distance(left: &str, right: &str, limit: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > limit {
        return None;
    }
    let right: Vec<u8> = right.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, byte) in left.bytes().enumerate() {
        let byte = byte.to_ascii_lowercase();
        let mut diagonal = at;
        let mut before = at + 1;
        let mut best = before;
        for (cell, other) in row.iter_mut().skip(1).zip(&right) {
            // `before` is the cell to the left, `diagonal` the one above it.
            let above = *cell;
            let here = (diagonal + usize::from(byte != *other)).min(before + 1).min(above + 1);
            diagonal = above;
            *cell = here;
            before = here;
            best = best.min(here);
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
        if best > limit {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::among;

    #[test]
    fn the_nearest_name_is_suggested_and_none_that_is_far() {
        let names = ["connect_timeout", "name", "type"];
        let hint = |wrong| among(wrong, names.into_iter());
        assert_eq!(hint("conect_timeout"), ", did you mean `connect_timeout`?");
        assert_eq!(hint("Name"), ", did you mean `name`?");
        assert_eq!(hint("typ"), ", did you mean `type`?");
        assert_eq!(hint("filters"), "");
        assert_eq!(hint(""), "");
    }
}
