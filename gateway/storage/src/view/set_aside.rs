//! Moving a broken view out of the way, as evidence.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ViewError;

/// Broken views that are kept; the oldest ones are removed beyond it, so that a view that breaks at every start does
/// not fill the disk.
pub const SET_ASIDE_KEPT: usize = 3;

/// Renames `dir` to `<dir>.broken-<n>`, with the next number, and says where it is now.
pub(crate) fn set_aside(dir: &Path) -> Result<PathBuf, ViewError> {
    let io = |doing, path: &Path| {
        let path = path.to_path_buf();
        move |source| ViewError::Io { doing, path, source }
    };
    let mut numbers = numbers(dir).map_err(io("list what was set aside beside", dir))?;
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let target = broken(dir, next);
    fs::rename(dir, &target).map_err(io("set aside", dir))?;
    let superfluous = (numbers.len() + 1).saturating_sub(SET_ASIDE_KEPT);
    for number in numbers.into_iter().take(superfluous) {
        let path = broken(dir, number);
        remove(&path).map_err(io("remove", &path))?;
    }
    Ok(target)
}

/// Removes what lies in `dir`, if anything does.
pub(super) fn remove_if_there(dir: &Path) -> Result<(), ViewError> {
    match remove(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ViewError::Io { doing: "remove", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}

fn broken(dir: &Path, number: u64) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".broken-{number}"));
    dir.with_file_name(name)
}

fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?.file_name();
        let number: Option<u64> = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix(&name))
            .and_then(|rest| rest.strip_prefix(".broken-"))
            .and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
