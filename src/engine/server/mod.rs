//! Rates crops by a server with OpenAI's API: vLLM, SGLang, TGI, llama.cpp, mistral.rs and others.
//!
//! `scorer` asks one chat completion for each crop, with retries and a breaker. `client` sends one
//! request, `completion` reads its answer, and `level_tokens` finds the levels in it. `error` and
//! `settings` are below all of them.
//!
//! A server needs no device thread, so there is no lane: requests wait for a slot, and their
//! futures are dropped with their images.
//!
//! May import `method` and `imaging`, and knows nothing of the lane.

mod breaker;
mod client;
mod completion;
mod error;
mod level_tokens;
mod request;
mod scorer;
mod settings;

pub use error::{OutageKind, ServerError, ServerOutage};
pub use scorer::{HttpScorer, ServerReport};
pub use settings::HttpSettings;
