//! Files of the directory.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use wasip3::http::types::{self as http, Response};
use wasip3::wit_bindgen::StreamReader;
use wasip3::wit_stream;

use crate::response::{answer, ok, respond};

/// What a route answers.
type Answer = Result<Response, http::ErrorCode>;

/// The regular files, as handlers/peer lists them.
pub(crate) async fn list() -> Answer {
    Ok(told(listing().await))
}

async fn listing() -> Result<String, ErrorCode> {
    let directory = directory()?;
    let (mut entries, ended) = directory.read_directory();
    let mut listing = String::from("[");
    while let Some(entry) = entries.next().await {
        if !matches!(entry.type_, DescriptorType::RegularFile) {
            continue;
        }
        let stat = directory.stat_at(PathFlags::empty(), entry.name.clone()).await?;
        let modified = stat.data_modification_timestamp.map_or(0, |time| time.seconds);
        let (name, size) = (entry.name, stat.size);
        let _ =
            write!(listing, "{{\"name\": {name:?}, \"size\": {size}, \"modified\": {modified}}}, ");
    }
    ended.await?;
    listing.push(']');
    Ok(listing)
}

/// Answers with a file, whose stream is the body.
pub(crate) async fn send(name: &str) -> Answer {
    let opened = async {
        let file = open(name, OpenFlags::empty(), DescriptorFlags::READ).await?;
        Ok((file.stat().await?.size, file))
    };
    Ok(match opened.await {
        Ok((size, file)) => {
            let (body, _) = file.read_via_stream(0);
            respond(200, &[("content-length", &format!("{size}"))], body)
        }
        Err(code) => told(Err(code)),
    })
}

/// Makes a file of a body, which the host takes from stream to stream.
pub(crate) async fn store(name: &str, body: StreamReader<u8>) -> Answer {
    let stored = async {
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = open(name, flags, DescriptorFlags::WRITE).await?;
        file.write_via_stream(body, 0).await?;
        Ok(format!("{} bytes\n", file.stat().await?.size))
    };
    Ok(told(stored.await))
}

/// Appends a body to a file.
pub(crate) async fn append(name: &str, body: StreamReader<u8>) -> Answer {
    let stored = async {
        let file = open(name, OpenFlags::CREATE, DescriptorFlags::WRITE).await?;
        file.append_via_stream(body).await?;
        Ok(format!("{} bytes\n", file.stat().await?.size))
    };
    Ok(told(stored.await))
}

pub(crate) async fn delete(name: &str) -> Answer {
    let deleted = async {
        directory()?.unlink_file_at(name.into()).await?;
        Ok(String::from("deleted\n"))
    };
    Ok(told(deleted.await))
}

/// Makes a file of these bytes.
pub(crate) async fn write(name: &str, bytes: &[u8]) {
    let (mut writer, data) = wit_stream::new();
    let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let Ok(file) = open(name, flags, DescriptorFlags::WRITE).await else { return };
    let written = file.write_via_stream(data, 0);
    writer.write_all(bytes.to_vec()).await;
    drop(writer);
    let _ = written.await;
}

fn directory() -> Result<Descriptor, ErrorCode> {
    get_directories().into_iter().next().map(|(directory, _)| directory).ok_or(ErrorCode::Access)
}

async fn open(
    name: &str,
    flags: OpenFlags,
    rights: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    directory()?.open_at(PathFlags::empty(), name.into(), flags, rights).await
}

/// A text, or the name of an error.
fn told(outcome: Result<String, ErrorCode>) -> Response {
    match outcome {
        Ok(text) => ok(&text),
        Err(ErrorCode::NoEntry) => answer(404, &[], "no-entry\n"),
        Err(code) => answer(409, &[], &format!("{code:?}\n")),
    }
}
