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
pub const ALL: &[Builtin] = builtins!["first"];

/// One of them.
pub fn by_name(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|known| known.name == name)
}

/// The name nearest to a word that is none.
pub fn nearest(word: &str) -> Option<&'static str> {
    let nearest = ALL.iter().map(|known| (strsim::damerau_levenshtein(word, known.name), known.name)).min();
    nearest.filter(|(distance, _)| *distance <= 1 + word.len() / 3).map(|(_, name)| name)
}
