//! Imports that everybody may have and nobody can use: the network, and instances that have nothing but types.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType, Val};

use crate::monitor::{Request, ServiceResponse, State};
use crate::offered::{HANDLER, SOCKETS, V3, granted, split};

/// What gives a handler the network, with which nothing can be done.
const NETWORK: (&str, &str) = ("wasi:sockets/instance-network", "instance-network");

/// The functions of [`SOCKETS`] that need no socket, and the error code that each fails with.
const FUNCTIONS: &[((&str, &str), &str)] = &[
    (NETWORK, ""),
    (("wasi:sockets/ip-name-lookup", "resolve-addresses"), "permanent-resolver-failure"),
    (("wasi:sockets/tcp-create-socket", "create-tcp-socket"), "access-denied"),
    (("wasi:sockets/udp-create-socket", "create-udp-socket"), "access-denied"),
];

/// The functions of it that need no socket in WASI 0.3, and the error code that each fails with, which may have a value
/// there.
const FUNCTIONS_03: &[((&str, &str), &str)] = &[
    (("wasi:sockets/ip-name-lookup", "resolve-addresses"), "permanent-resolver-failure"),
    (("wasi:sockets/types", "[static]tcp-socket.create"), "access-denied"),
    (("wasi:sockets/types", "[static]udp-socket.create"), "access-denied"),
];

/// The resources that [`SOCKETS`] defines; others of its types stand for these.
const RESOURCES: &[(&str, &str)] = &[
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp", "incoming-datagram-stream"),
    ("wasi:sockets/udp", "outgoing-datagram-stream"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/ip-name-lookup", "resolve-address-stream"),
    ("wasi:sockets/types", "tcp-socket"),
    ("wasi:sockets/types", "udp-socket"),
];

/// Defines what the component imports of [`SOCKETS`], and instances of types alone.
pub(crate) fn link(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<State>,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        let (package, interface, version) = split(name);
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if package != SOCKETS {
            if granted(name).is_none() {
                let mut types = linker.instance(name)?;
                for (export, ty) in resources_of(interface) {
                    types.resource(export, ty, |_, _| Ok(()))?;
                }
            }
            continue;
        }
        let mut linked = linker.instance(name)?;
        for (export, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(func) if V3(version) => {
                    let known = known(FUNCTIONS_03, interface, export);
                    deny_03(&mut linked, export, func.async_(), known)?;
                }
                ComponentItem::ComponentFunc(_) => {
                    deny(&mut linked, export, known(FUNCTIONS, interface, export))?;
                }
                ComponentItem::Resource(_) if RESOURCES.contains(&(interface, export)) => {
                    linked.resource(export, ResourceType::host::<Socket>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The resources in an instance of types alone, which other imports define: no guest gets one from here.
fn resources_of(interface: &str) -> Vec<(&'static str, ResourceType)> {
    match interface {
        HANDLER => vec![
            ("request", ResourceType::host::<Request>()),
            ("response", ResourceType::host::<ServiceResponse>()),
        ],
        _ => Vec::new(),
    }
}

/// A function that can be called, with its error code; all others are called with a socket, and there is none.
type Known = Result<((&'static str, &'static str), &'static str), NoNetwork>;

fn known(
    functions: &[((&'static str, &'static str), &'static str)],
    interface: &str,
    export: &str,
) -> Known {
    let known = functions.iter().copied().find(|(known, _)| *known == (interface, export));
    known.ok_or_else(|| NoNetwork(format!("{interface} {export}")))
}

/// Defines a function of WASI 0.3 that fails, whether or not a task may wait for it.
fn deny_03(
    linked: &mut LinkerInstance<'_, State>,
    export: &str,
    is_async: bool,
    known: Known,
) -> wasmtime::Result<()> {
    let deny = move |state: &mut State, results: &mut [Val]| {
        let (function, code) = known.clone()?;
        state.deny_network(function);
        if let Some(result) = results.first_mut() {
            *result = Val::Result(Err(Some(Box::new(Val::Variant(code.into(), None)))));
        }
        wasmtime::Result::Ok(())
    };
    match is_async {
        true => linked.func_new_concurrent(export, move |accessor, _, _, results| {
            let denied = accessor.with(|mut access| deny(access.get(), results));
            Box::pin(async { denied })
        }),
        false => {
            linked.func_new(export, move |mut store, _, _, results| deny(store.data_mut(), results))
        }
    }
}

/// Defines a function that fails, or gives the network.
fn deny(
    linked: &mut LinkerInstance<'_, State>,
    export: &str,
    known: Known,
) -> wasmtime::Result<()> {
    linked.func_new(export, move |mut store, _, arguments, results| {
        // What was lent has to be given back.
        for argument in arguments {
            if let Val::Resource(lent) = argument {
                lent.resource_drop(&mut store)?;
            }
        }
        let (function, code) = known.clone()?;
        let Some(result) = results.first_mut() else { return Ok(()) };
        *result = if function == NETWORK {
            store.data_mut().asks_for_network(function);
            let network = Resource::<Socket>::new_own(0);
            Val::Resource(network.try_into_resource_any(&mut store)?)
        } else {
            store.data_mut().deny_network(function);
            Val::Result(Err(Some(Box::new(Val::Enum(code.into())))))
        };
        Ok(())
    })
}

/// The guest called this function of [`SOCKETS`], which needs what there is not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}: there is no network")]
struct NoNetwork(String);

/// A socket; there are none.
enum Socket {}
