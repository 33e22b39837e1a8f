//! A handler with `wasmtime-wasi`, set up as its documentation says, and so that it is fast.

use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use crate::Grants;

/// Bytes of a memory that may stay resident in a slot of the pool, so that they are cleared and
/// not mapped anew: what an instance of a committed handler touches.
const KEPT_RESIDENT: usize = 1 << 20;

/// Bytes of standard output and error, both together, that a call may write.
pub(crate) const OUTPUT: usize = 16 << 20;

/// A handler that was compiled and linked with `wasmtime-wasi`.
pub struct Reference {
    engine: Engine,
    pre: InstancePre<Context>,
}

struct Context {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Reference {
    /// Compiles a component that exports `handle`.
    ///
    /// # Errors
    /// When it is none, or imports what `wasmtime-wasi` has not.
    pub fn new(component: &[u8]) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(16)
            .linear_memory_keep_resident(KEPT_RESIDENT)
            .table_keep_resident(KEPT_RESIDENT);
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        let pre = linker.instantiate_pre(&Component::from_binary(&engine, component)?)?;
        Ok(Self { engine, pre })
    }

    /// Runs one request in an instance of its own; what it answers, and what it wrote to its
    /// standard output and error.
    ///
    /// # Errors
    /// When the call traps.
    pub fn call(&self, grants: Grants<'_>, request: &[u8]) -> (wasmtime::Result<Vec<u8>>, Vec<u8>) {
        let output = MemoryOutputPipe::new(OUTPUT);
        let answered = self.answer(grants, request, &output);
        (answered, output.contents().into())
    }

    fn answer(
        &self,
        grants: Grants<'_>,
        request: &[u8],
        output: &MemoryOutputPipe,
    ) -> wasmtime::Result<Vec<u8>> {
        let context = Context { wasi: granted(grants, output)?, table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, context);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
        let instance = self.pre.instantiate(&mut store)?;
        let handle = instance.get_typed_func::<(&[u8],), (Vec<u8>,)>(&mut store, "handle")?;
        let (answer,) = handle.call(&mut store, (request,))?;
        Ok(answer)
    }
}

/// What a call may reach, in the words of `wasmtime-wasi`.
pub(crate) fn granted(grants: Grants<'_>, output: &MemoryOutputPipe) -> wasmtime::Result<WasiCtx> {
    let permissions = if grants.is_read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
    let mut builder = WasiCtx::builder();
    builder
        // Its fastest way, which holds the thread as the sandbox does.
        .allow_blocking_current_thread(true)
        .stdin(ClosedInputStream)
        .stdout(output.clone())
        .stderr(output.clone())
        .envs(grants.env)
        .preopened_dir(grants.dir, "folder", permissions)?;
    Ok(builder.build())
}
