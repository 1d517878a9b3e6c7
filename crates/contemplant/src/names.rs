//! Names for workers whose operator gave none.

use rand::seq::IndexedRandom as _;

/// The names, one per line.
const OLD_TESTAMENT: &str = include_str!("../../../old_testament.txt");

/// A name from the Old Testament, drawn at random.
pub fn draw(rng: &mut impl rand::Rng) -> &'static str {
    let names: Vec<&str> = OLD_TESTAMENT.lines().filter(|name| !name.is_empty()).collect();
    names.choose(rng).copied().unwrap_or("Adam")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_at_least_200_names_and_none_twice() {
        let names: Vec<&str> = OLD_TESTAMENT.lines().collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert!(names.len() >= 200);
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| !name.trim().is_empty() && name.len() <= 100));
    }

    #[test]
    fn a_drawn_name_is_one_of_the_list() {
        let name = draw(&mut rand::rng());
        assert!(OLD_TESTAMENT.lines().any(|line| line == name));
    }
}
