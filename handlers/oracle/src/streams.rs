//! Calls of `wasi:io/streams`.

use wasip2::cli::{stderr, stdin, stdout};
use wasip2::filesystem::types::filesystem_error_code;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::files::code;
use super::operation::{Operation, Outcome};
use super::{Open, digest, nth, pattern};

/// Bytes that a blocking write may carry.
const BLOCKING: u64 = 4096;

impl Open {
    pub(super) fn stream(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        let file = |number: u8| nth(&self.descriptors, number);
        let input = |number: u8| nth(&self.inputs, number);
        let output = |number: u8| nth(&self.outputs, number);
        match operation {
            ReadStream { file: number, offset } => {
                let stream = file(number)?.read_via_stream(offset).map_err(code)?;
                self.inputs.push(stream);
                Ok("opened".into())
            }
            WriteStream { file: number, offset } => {
                let stream = file(number)?.write_via_stream(offset).map_err(code)?;
                self.outputs.push(stream);
                Ok("opened".into())
            }
            AppendStream { file: number } => {
                let stream = file(number)?.append_via_stream().map_err(code)?;
                self.outputs.push(stream);
                Ok("opened".into())
            }
            Input => {
                self.inputs.push(stdin::get_stdin());
                Ok("opened".into())
            }
            Output { error } => {
                self.outputs.push(if error { stderr::get_stderr() } else { stdout::get_stdout() });
                Ok("opened".into())
            }
            StreamRead { stream, length, blocking } => read(input(stream)?, length, blocking),
            StreamSkip { stream, length, blocking } => {
                let stream = input(stream)?;
                in_parts(length.into(), |left| {
                    if blocking {
                        return stream.blocking_skip(left);
                    }
                    stream.subscribe().block();
                    stream.skip(left)
                })
            }
            StreamWrite { stream, length, blocking } => {
                write(output(stream)?, &pattern(length.into()), blocking)
            }
            StreamZeroes { stream, length, blocking } => {
                let stream = output(stream)?;
                in_parts(length.into(), |left| {
                    if blocking {
                        let length = left.min(BLOCKING);
                        return stream.blocking_write_zeroes_and_flush(length).map(|()| length);
                    }
                    let length = left.min(permitted(stream)?);
                    stream.write_zeroes(length)?;
                    settle(stream)?;
                    Ok(length)
                })
            }
            StreamFlush { stream, blocking } => {
                let stream = output(stream)?;
                let flushed = if blocking {
                    stream.blocking_flush()
                } else {
                    stream.flush().and_then(|()| settle(stream))
                };
                flushed.map(|()| "flushed".into()).map_err(why)
            }
            StreamSplice { stream, from, length, blocking } => {
                let (stream, from) = (output(stream)?, input(from)?);
                in_parts(length.into(), |left| {
                    if blocking {
                        let moved = stream.blocking_splice(from, left)?;
                        settle(stream)?;
                        return Ok(moved);
                    }
                    from.subscribe().block();
                    permitted(stream)?;
                    let moved = stream.splice(from, left)?;
                    settle(stream)?;
                    Ok(moved)
                })
            }
            _ => Err("(not a call of a stream)".into()),
        }
    }
}

/// Calls until so many bytes have gone; how many did, and why no more.
fn in_parts(length: u64, mut call: impl FnMut(u64) -> Result<u64, StreamError>) -> Outcome {
    let mut gone = 0;
    loop {
        match call(length - gone) {
            Ok(part) => gone += part,
            Err(error) if gone == 0 => return Err(why(error)),
            Err(error) => return Ok(format!("{gone} bytes, then {}", why(error))),
        }
        if gone >= length {
            return Ok(format!("{gone} bytes"));
        }
    }
}

fn read(stream: &InputStream, length: u16, blocking: bool) -> Outcome {
    let mut all = Vec::new();
    let outcome = in_parts(length.into(), |left| {
        let bytes = if blocking {
            stream.blocking_read(left)?
        } else {
            stream.subscribe().block();
            stream.read(left)?
        };
        all.extend(&bytes);
        Ok(bytes.len() as u64)
    });
    outcome.map(|outcome| format!("{outcome}: {}", digest(&all)))
}

fn write(stream: &OutputStream, bytes: &[u8], blocking: bool) -> Outcome {
    let mut rest = bytes;
    in_parts(bytes.len() as u64, |left| {
        let most = if blocking { BLOCKING } else { permitted(stream)? };
        let (part, others) = rest.split_at(left.min(most) as usize);
        if blocking {
            stream.blocking_write_and_flush(part)?;
        } else {
            stream.write(part)?;
            settle(stream)?;
        }
        rest = others;
        Ok(part.len() as u64)
    })
}

/// How much may be written, once something may.
fn permitted(stream: &OutputStream) -> Result<u64, StreamError> {
    loop {
        match stream.check_write()? {
            0 => stream.subscribe().block(),
            bytes => return Ok(bytes),
        }
    }
}

/// Waits for what was written.
fn settle(stream: &OutputStream) -> Result<(), StreamError> {
    stream.flush()?;
    permitted(stream).map(|_| ())
}

/// Why a stream does no more.
fn why(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".into(),
        StreamError::LastOperationFailed(error) => match filesystem_error_code(&error) {
            Some(error) => format!("failed: {}", code(error)),
            None => "failed".into(),
        },
    }
}
