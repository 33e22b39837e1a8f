//! The directory that the host granted, and what several attacks do in it.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};

use crate::outcome::{Gain, Outcome, Refusal};

/// The first directory that the host granted.
pub fn granted() -> Result<Descriptor, Refusal> {
    let first = get_directories().into_iter().next();
    first.map(|(directory, _)| directory).ok_or_else(|| Refusal("no directory".to_owned()))
}

/// Opens a file for reading and writing, and creates it if need be.
pub fn create(directory: &Descriptor, name: &str) -> Result<Descriptor, ErrorCode> {
    let access = DescriptorFlags::READ | DescriptorFlags::WRITE;
    directory.open_at(PathFlags::empty(), name, OpenFlags::CREATE, access)
}

/// Opens what is there for reading, or for listing if it is a directory.
pub fn open(directory: &Descriptor, name: &str) -> Result<Descriptor, ErrorCode> {
    directory.open_at(PathFlags::empty(), name, OpenFlags::empty(), DescriptorFlags::READ)
}

/// Removes all that can be removed. A directory's own directories are first moved
/// up to the top, so that no depth takes more than two handles.
pub fn clean() -> Outcome {
    let top = granted()?;
    let mut moved = 0;
    loop {
        let before = moved;
        for (name, kind) in entries(&top)? {
            if !matches!(kind, DescriptorType::Directory) {
                let _ = top.unlink_file_at(&name);
            } else if top.remove_directory_at(&name).is_err() {
                let _ = empty(&top, &name, &mut moved);
                let _ = top.remove_directory_at(&name);
            }
        }
        if moved == before {
            return Ok(Gain::Nothing);
        }
    }
}

/// Removes the files of one directory and moves its directories to the top.
fn empty(top: &Descriptor, name: &str, moved: &mut u64) -> Result<(), ErrorCode> {
    let directory = open(top, name)?;
    for (name, kind) in entries(&directory)? {
        if !matches!(kind, DescriptorType::Directory) {
            let _ = directory.unlink_file_at(&name);
        } else if directory.remove_directory_at(&name).is_err() {
            let up = format!("moved-{moved}");
            *moved += u64::from(directory.rename_at(&name, top, &up).is_ok());
        }
    }
    Ok(())
}

/// The names in a directory that are text, and what each is.
pub fn entries(directory: &Descriptor) -> Result<Vec<(String, DescriptorType)>, ErrorCode> {
    let stream = directory.read_directory()?;
    let mut entries = Vec::new();
    loop {
        match stream.read_directory_entry() {
            Ok(Some(entry)) => entries.push((entry.name, entry.type_)),
            Ok(None) => return Ok(entries),
            Err(ErrorCode::IllegalByteSequence) => {}
            Err(code) => return Err(code),
        }
    }
}
