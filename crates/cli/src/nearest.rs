//! "Did you mean": the names nearest to one that does not exist.

/// Suggestions shown at most.
const SUGGESTIONS_MAX: usize = 3;
/// Characters that a common start has at least.
const START_MIN: usize = 4;

/// The names most like `wanted`, best first; empty if none is near.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let limit = (wanted.chars().count() / 3).max(1);
    let mut ranked: Vec<(usize, &str)> = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .filter_map(|name| rank(&wanted, name, limit).map(|rank| (rank, name)))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name).collect()
}

/// Distance if `name` is near enough; half of what is wanted as a common start, or a part of the name, is near.
fn rank(wanted: &str, name: &str, limit: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    let distance = distance(wanted, &lower);
    let contained =
        wanted.len() >= 2 && (lower.contains(wanted) || (lower.len() >= 2 && wanted.contains(&lower)));
    let start = wanted.chars().zip(lower.chars()).take_while(|(a, b)| a == b).count();
    let begins_alike = start >= START_MIN && start * 2 >= wanted.chars().count();
    (distance <= limit || contained || begins_alike).then_some(distance)
}

/// Levenshtein distance: insertions, deletions and replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// ` Did you mean 'a' or 'b'?`, or nothing.
pub(crate) fn hint(wanted: &str, names: &[String]) -> String {
    let near = nearest(wanted, names.iter().map(String::as_str));
    if near.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = near.iter().map(|name| format!("'{name}'")).collect();
    format!(" Did you mean {}?", quoted.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("blue", "blue", 0), ("blu", "blue", 1), ("red", "blue", 4), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = ["blue", "green", "blue-net", "external"].map(String::from);
        assert_eq!(hint("bleu", &names[..2]), "");
        assert_eq!(hint("blu", &names), " Did you mean 'blue' or 'blue-net'?");
        assert_eq!(hint("externl", &names), " Did you mean 'external'?");
        assert_eq!(hint("exterior", &names), " Did you mean 'external'?");
        assert_eq!(hint("zzz", &names), "");
        assert_eq!(hint("BLUE", &names[..1]), " Did you mean 'blue'?");
    }
}
