//! Streams of bytes, from files and to them.

use std::pin::Pin;

use wasip3::cli::types::ErrorCode as CliError;
use wasip3::cli::{stderr, stdin, stdout};
use wasip3::filesystem::types::ErrorCode;
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::wit_stream;

use super::files::code;
use super::operation::{Operation, Outcome};
use super::{Open, digest, nth, pattern, take};

/// How a stream ended.
type Ended = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What is read, and what says how that ended.
pub(super) struct Input {
    stream: StreamReader<u8>,
    ended: Ended,
    /// Which file it is of, if it is of one, and how long that was.
    file: Option<((u64, u64), u64)>,
}

/// What is written to, and what says how that ended.
pub(super) struct Output {
    stream: StreamWriter<u8>,
    ended: Ended,
}

impl Output {
    pub(super) async fn close(self) -> Result<(), String> {
        drop(self.stream);
        self.ended.await
    }
}

fn of_file(ended: FutureReader<Result<(), ErrorCode>>) -> Ended {
    Box::pin(async { ended.await.map_err(code) })
}

fn of_cli(ended: FutureReader<Result<(), CliError>>) -> Ended {
    Box::pin(async { ended.await.map_err(|code| format!("{code:?}")) })
}

/// Bytes of a file from which it is not read as a whole.
const LONG: u64 = 1 << 20;

impl Open {
    pub(super) async fn stream(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        match operation {
            ReadStream { file, offset } => {
                let file = nth(&self.descriptors, file)?;
                let of = match (file.metadata_hash().await, file.stat().await) {
                    (Ok(hash), Ok(stat)) => Some(((hash.lower, hash.upper), stat.size)),
                    _ => None,
                };
                let (stream, ended) = file.read_via_stream(offset);
                self.inputs.push(self::Input { stream, ended: of_file(ended), file: of });
                Ok("opened".into())
            }
            Input => {
                let (stream, ended) = stdin::read_via_stream();
                self.inputs.push(self::Input { stream, ended: of_cli(ended), file: None });
                Ok("opened".into())
            }
            WriteStream { file, offset } => {
                let (stream, data) = wit_stream::new();
                let ended = of_file(nth(&self.descriptors, file)?.write_via_stream(data, offset));
                self.outputs.push(self::Output { stream, ended });
                Ok("opened".into())
            }
            AppendStream { file } => {
                let (stream, data) = wit_stream::new();
                let ended = of_file(nth(&self.descriptors, file)?.append_via_stream(data));
                self.outputs.push(self::Output { stream, ended });
                Ok("opened".into())
            }
            Output { error } => {
                let (stream, data) = wit_stream::new();
                let ended = of_cli(match error {
                    true => stderr::write_via_stream(data),
                    false => stdout::write_via_stream(data),
                });
                self.outputs.push(self::Output { stream, ended });
                Ok("opened".into())
            }
            CloseInput { stream } => {
                let input = take(&mut self.inputs, stream)?;
                drop(input.stream);
                input.ended.await.map(|()| "ended".into())
            }
            CloseOutput { stream } => {
                take(&mut self.outputs, stream)?.close().await.map(|()| "ended".into())
            }
            StreamRead { stream, length, .. } => {
                let count = self.inputs.len().max(1);
                let Some(input) = self.inputs.get_mut(usize::from(stream) % count) else {
                    return Err(super::none());
                };
                let (bytes, has_ended) = read(&mut input.stream, length.into()).await;
                Ok(format!("{}, ended: {has_ended}", digest(&bytes)))
            }
            StreamWrite { stream, length, .. } => {
                let count = self.outputs.len().max(1);
                let Some(output) = self.outputs.get_mut(usize::from(stream) % count) else {
                    return Err(super::none());
                };
                let left = output.stream.write_all(pattern(length.into())).await;
                Ok(format!("{} bytes left", left.len()))
            }
            // Appends what is left of one file to another, from stream to stream.
            StreamSplice { stream, from, .. } => {
                let input = take(&mut self.inputs, from)?;
                let file = nth(&self.descriptors, stream)?;
                let hash = file.metadata_hash().await.map(|hash| (hash.lower, hash.upper));
                match input.file {
                    // It would have no end, or none soon.
                    Some((of, length)) if hash.as_ref().ok() == Some(&of) || length > LONG => {
                        return Err("(not spliced)".into());
                    }
                    _ => {}
                }
                let ended = file.append_via_stream(input.stream).await;
                ended.map(|()| "spliced".into()).map_err(code)
            }
            _ => Err("(not a call of a stream)".into()),
        }
    }
}

/// Up to so many bytes, and whether there are no more.
pub(super) async fn read(stream: &mut StreamReader<u8>, length: usize) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while all.len() < length {
        let (result, bytes) = stream.read(Vec::with_capacity(length - all.len())).await;
        all.extend(&bytes);
        if matches!(result, StreamResult::Dropped | StreamResult::Cancelled) {
            return (all, true);
        }
    }
    (all, false)
}
