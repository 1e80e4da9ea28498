//! Suggestions for names that were probably mistyped.

/// The known name that is closest to a mistyped one, if any is close enough to be meant.
pub(crate) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Of very short names every other one would be near.
    let most = (wanted.chars().count() / 3).min(3);
    known
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …? ` when a name is close, and then all that there are.
pub(crate) fn suggest<'a>(wanted: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all: Vec<String> = known.clone().into_iter().map(|name| format!("`{name}`")).collect();
    let listed = if all.is_empty() { format!("there are no {what}") } else { format!("{what} are {}", all.join(", ")) };
    match nearest(wanted, known) {
        Some(name) => format!("did you mean `{name}`? {listed}"),
        None => listed,
    }
}

/// Edits (insert, delete, replace, swap of neighbours) from one name to the other. Names are short.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (
        from.chars().flat_map(char::to_lowercase).take(64).collect(),
        to.chars().flat_map(char::to_lowercase).take(64).collect(),
    );
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_mistyped_name_finds_its_neighbour_and_a_foreign_one_finds_none() {
        let known = ["steps", "inputs", "mounts"];
        assert_eq!(nearest("stpes", known), Some("steps"));
        assert_eq!(nearest("Input", known), Some("inputs"));
        assert_eq!(nearest("outputs", ["name"]), None);
    }
}
