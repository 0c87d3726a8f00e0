//! The scenarios that come with the program: the files of `scenarios/`, by their names.

/// A scenario file.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name: the file's, without the ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! builtins {
    ($($name:literal),* $(,)?) => {
        &[$(Builtin { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),*]
    };
}

/// All of them, by name.
pub const ALL: &[Builtin] = builtins![
    "bad-network",
    "consumer-outage",
    "disk-full",
    "edge-sites",
    "first",
    "flash-crowd",
    "half-open",
    "hog",
    "kill-9",
    "overload-10x",
    "overload-2x",
    "overload-5x",
    "overload-hog",
    "overload-none",
    "overload-storm",
    "poison",
    "reconnect-storm",
    "restart",
    "rush-hour",
    "slow-consumer",
];

/// One of them.
pub fn by_name(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|known| known.name == name)
}

/// The name nearest to a word that is none.
pub fn nearest(word: &str) -> Option<&'static str> {
    let nearest = ALL.iter().map(|known| (strsim::damerau_levenshtein(word, known.name), known.name)).min();
    nearest.filter(|(distance, _)| *distance <= 1 + word.len() / 3).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_one_is_valid_says_what_it_shows_and_expects_something() {
        for one in ALL {
            let scenario =
                Scenario::parse(one.text).unwrap_or_else(|faults| panic!("{}: {faults}", one.name));
            assert!((20..=160).contains(&scenario.about.len()), "{}: {}", one.name, scenario.about);
            assert!(one.name == "first" || scenario.expect.loss == Some(0), "{}", one.name);
            assert!(scenario.run.seed.is_some(), "{}", one.name);
        }
        assert!(ALL.is_sorted_by_key(|one| one.name));
        assert_eq!((nearest("kill9"), nearest("weather")), (Some("kill-9"), None));
    }

    #[test]
    fn none_of_the_directory_is_missing() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, ALL.iter().map(|one| one.name).collect::<Vec<_>>());
    }
}
