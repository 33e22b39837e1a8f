//! Header fields, and the times of requests to others.

use wasmtime::component::Resource;

use super::bindings::wasi::http::types::{
    HeaderError, HostFields, HostRequestOptions, RequestOptionsError,
};
use crate::denials::DeniedBy;
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::bindings::wasi::http::types::HostFields as Old;
use crate::monitor::http::{Fields, RequestOptions, TYPES, Wrong};

impl State {
    /// What a function that changes fields returns.
    fn changed_fields<T>(&mut self, changed: Result<T, Wrong>) -> Result<T, HeaderError> {
        changed.map_err(|wrong| {
            let outcome = match wrong {
                Wrong::TooMany => Outcome::Denied(DeniedBy::Monitor),
                Wrong::Syntax | Wrong::Forbidden | Wrong::Immutable => Outcome::Failed,
            };
            self.refused(outcome, &wrong);
            match wrong {
                Wrong::Syntax => HeaderError::InvalidSyntax,
                Wrong::Forbidden => HeaderError::Forbidden,
                Wrong::Immutable => HeaderError::Immutable,
                Wrong::TooMany => HeaderError::SizeExceeded,
            }
        })
    }
}

type Name = String;
type Value = Vec<u8>;

impl HostFields for State {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        Old::new(self)
    }

    fn from_list(
        &mut self,
        entries: Vec<(Name, Value)>,
    ) -> wasmtime::Result<Result<Resource<Fields>, HeaderError>> {
        self.audit(TYPES, "fields.from-list", Argument::None);
        let mut fields = Fields::empty();
        let mut entries = entries.into_iter();
        let added = entries.try_for_each(|(name, value)| fields.append(&name, value));
        match self.changed_fields(added) {
            Ok(()) => Ok(Ok(self.hand_out(fields)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn get(&mut self, fields: Resource<Fields>, name: Name) -> wasmtime::Result<Vec<Value>> {
        Old::get(self, fields, name)
    }

    fn has(&mut self, fields: Resource<Fields>, name: Name) -> wasmtime::Result<bool> {
        Old::has(self, fields, name)
    }

    fn set(
        &mut self,
        fields: Resource<Fields>,
        name: Name,
        values: Vec<Value>,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.set", Argument::None);
        let changed = self.table.get_mut(&fields)?.set(&name, values);
        Ok(self.changed_fields(changed))
    }

    fn delete(
        &mut self,
        fields: Resource<Fields>,
        name: Name,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.delete", Argument::None);
        let changed = self.table.get_mut(&fields)?.delete(&name);
        Ok(self.changed_fields(changed))
    }

    fn get_and_delete(
        &mut self,
        fields: Resource<Fields>,
        name: Name,
    ) -> wasmtime::Result<Result<Vec<Value>, HeaderError>> {
        self.audit(TYPES, "fields.get-and-delete", Argument::None);
        let fields = self.table.get_mut(&fields)?;
        let values = fields.get(&name);
        let changed = fields.delete(&name).map(|()| values);
        Ok(self.changed_fields(changed))
    }

    fn append(
        &mut self,
        fields: Resource<Fields>,
        name: Name,
        value: Value,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.append", Argument::None);
        let changed = self.table.get_mut(&fields)?.append(&name, value);
        Ok(self.changed_fields(changed))
    }

    fn copy_all(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Vec<(Name, Value)>> {
        Old::entries(self, fields)
    }

    fn clone(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<Fields>> {
        Old::clone(self, fields)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> wasmtime::Result<()> {
        self.release(fields)
    }
}

/// A time in nanoseconds, if there is one.
type Time = Option<u64>;

impl State {
    /// Changes times that are no request's yet.
    fn change_options(
        &mut self,
        function: &'static str,
        options: &Resource<RequestOptions>,
        change: impl FnOnce(&mut RequestOptions),
    ) -> wasmtime::Result<Result<(), RequestOptionsError>> {
        self.audit(TYPES, function, Argument::None);
        let options = self.table.get_mut(options)?;
        if options.is_immutable {
            return Ok(Err(RequestOptionsError::Immutable));
        }
        change(options);
        Ok(Ok(()))
    }

    fn options(
        &mut self,
        function: &'static str,
        options: &Resource<RequestOptions>,
    ) -> wasmtime::Result<&RequestOptions> {
        self.audit(TYPES, function, Argument::None);
        Ok(self.table.get(options)?)
    }
}

impl HostRequestOptions for State {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        self.audit(TYPES, "request-options.new", Argument::None);
        Ok(self.hand_out(RequestOptions::default())?)
    }

    fn get_connect_timeout(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<Time> {
        Ok(self.options("request-options.get-connect-timeout", &options)?.connect)
    }

    fn set_connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        time: Time,
    ) -> wasmtime::Result<Result<(), RequestOptionsError>> {
        let function = "request-options.set-connect-timeout";
        self.change_options(function, &options, |options| options.connect = time)
    }

    fn get_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Time> {
        Ok(self.options("request-options.get-first-byte-timeout", &options)?.first_byte)
    }

    fn set_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        time: Time,
    ) -> wasmtime::Result<Result<(), RequestOptionsError>> {
        let function = "request-options.set-first-byte-timeout";
        self.change_options(function, &options, |options| options.first_byte = time)
    }

    fn get_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Time> {
        Ok(self.options("request-options.get-between-bytes-timeout", &options)?.between_bytes)
    }

    fn set_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        time: Time,
    ) -> wasmtime::Result<Result<(), RequestOptionsError>> {
        let function = "request-options.set-between-bytes-timeout";
        self.change_options(function, &options, |options| options.between_bytes = time)
    }

    fn clone(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Resource<RequestOptions>> {
        let options = self.options("request-options.clone", &options)?;
        let copy = RequestOptions { is_immutable: false, ..options.clone() };
        Ok(self.hand_out(copy)?)
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        self.release(options)
    }
}
