//! A server with OpenAI's API on loopback that rates pictures by their brightness, so that a test
//! knows the right level of each, and that misbehaves when asked to.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dog_iqa::engine::{DogIqaSettings, Engine, HttpSettings, Scorers, Settings};
use dog_iqa::imaging;
use dog_iqa::method::{Standard, StandardForm};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::web_server::{Answer, Request, WebServer};

/// Name of the model in answers.
pub(crate) const MODEL: &str = "double/brightness-7b";
/// Fingerprint in answers.
pub(crate) const FINGERPRINT: &str = "fp_double";

/// Decides on the answer to a request, given the brightness of its picture, 0 to 255. `None` rates
/// it.
type Fault = dyn Fn(u8) -> Option<Answer> + Send + Sync;

/// The server, with a fault that can be changed while it runs.
pub(crate) struct ScoringServer {
    pub(crate) server: WebServer,
    fault: Arc<Mutex<Option<Arc<Fault>>>>,
    load: Arc<Load>,
}

/// Counts the requests that are answered at the same time.
#[derive(Default)]
struct Load {
    now: Mutex<usize>,
    changed: Condvar,
    max: AtomicUsize,
    /// Requests that must be in progress before any is answered.
    gathered: AtomicUsize,
}

impl ScoringServer {
    pub(crate) fn start() -> Self {
        Self::start_with(|answer| WebServer::start(answer))
    }

    /// Starts a server that listens on this socket.
    pub(crate) fn start_on(listener: TcpListener) -> Self {
        Self::start_with(|answer| WebServer::start_on(listener, answer))
    }

    pub(crate) fn start_with(
        start: impl FnOnce(Box<dyn Fn(&Request, usize) -> Answer + Send + Sync>) -> WebServer,
    ) -> Self {
        let fault: Arc<Mutex<Option<Arc<Fault>>>> = Arc::default();
        let load = Arc::new(Load::default());
        let (faults, loads) = (Arc::clone(&fault), Arc::clone(&load));
        let answer = move |request: &Request, _: usize| {
            loads.enter();
            let brightness = brightness(&parsed(request));
            let fault = faults.lock().unwrap().clone();
            let answer = fault.and_then(|fault| fault(brightness));
            let answer = answer.unwrap_or_else(|| rated(level(brightness)));
            loads.leave();
            answer
        };
        Self { server: start(Box::new(answer)), fault, load }
    }

    /// Answers pictures of these brightnesses otherwise, from now on.
    pub(crate) fn misbehave(&self, fault: impl Fn(u8) -> Option<Answer> + Send + Sync + 'static) {
        *self.fault.lock().unwrap() = Some(Arc::new(fault));
    }

    /// Rates every picture from now on.
    pub(crate) fn behave(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// Waits for this number of requests before it answers any.
    pub(crate) fn gather(&self, count: usize) {
        self.load.gathered.store(count, Ordering::SeqCst);
    }

    /// Returns the largest number of requests at the same time.
    pub(crate) fn concurrency(&self) -> usize {
        self.load.max.load(Ordering::SeqCst)
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// Returns settings of an engine that rates here and segments without weights.
    pub(crate) fn settings(&self) -> HttpSettings {
        settings_for(&self.server.url("/v1"))
    }
}

impl Load {
    fn enter(&self) {
        let mut now = self.now.lock().unwrap();
        *now += 1;
        self.max.fetch_max(*now, Ordering::SeqCst);
        self.changed.notify_all();
        let gathered = self.gathered.load(Ordering::SeqCst);
        let is_short = |_: &mut usize| self.max.load(Ordering::SeqCst) < gathered;
        // Without the others in time the test fails by its own assertion.
        drop(self.changed.wait_timeout_while(now, Duration::from_secs(10), is_short).unwrap());
    }

    fn leave(&self) {
        *self.now.lock().unwrap() -= 1;
    }
}

/// Returns settings for a server that fail fast.
pub(crate) fn settings_for(url: &str) -> HttpSettings {
    HttpSettings {
        url: url.to_owned(),
        model: "brightness".to_owned(),
        timeout: Duration::from_secs(20),
        ..HttpSettings::default()
    }
}

/// Opens an engine that rates on the server and segments without weights. Blocks.
pub(crate) fn engine(http: HttpSettings) -> Engine {
    engine_of("http".into(), http)
}

/// Opens an engine with these scorers, one of which may be the server, that segments without
/// weights. Blocks.
pub(crate) fn engine_of(scorer: Scorers, http: HttpSettings) -> Engine {
    let dog_iqa = DogIqaSettings {
        segmenter: "classic".to_owned(),
        scorer,
        http,
        ..DogIqaSettings::default()
    };
    let settings = Settings { dog_iqa, ..Settings::default() };
    Engine::open(&settings, &Standard::builtin(7, StandardForm::Word).unwrap()).unwrap()
}

/// Returns the right level of a brightness.
pub(crate) fn level(brightness: u8) -> u8 {
    brightness / 37 + 1
}

/// Returns a picture of one brightness.
pub(crate) fn grey(brightness: u8) -> RgbImage {
    RgbImage::from_pixel(48, 40, Rgb([brightness; 3]))
}

/// Returns the request's JSON.
pub(crate) fn parsed(request: &Request) -> Value {
    let mut body = request.body.clone();
    body.push(b'}');
    serde_json::from_slice(&body).unwrap()
}

/// Returns the mean brightness of the request's picture.
fn brightness(request: &Value) -> u8 {
    let url = request.pointer("/messages/1/content/0/image_url/url").unwrap().as_str().unwrap();
    let data = url.strip_prefix("data:image/png;base64,").unwrap();
    let bytes = BASE64_STANDARD.decode(data).unwrap();
    let picture = imaging::decode(&bytes, &imaging::Settings::default()).unwrap();
    let samples = picture.pixels().as_raw();
    let sum: u64 = samples.iter().map(|sample| u64::from(*sample)).sum();
    u8::try_from(sum / samples.len() as u64).unwrap()
}

/// Returns a rating with 0.8 on this level, 0.1 on `The`, and 0.1 that is not reported.
fn rated(level: u8) -> Answer {
    let tokens = [(level.to_string(), 0.8_f64), ("The".to_owned(), 0.1)];
    let top: Vec<Value> = tokens
        .iter()
        .map(|(token, share)| json!({"token": token, "bytes": token.as_bytes(), "logprob": share.ln()}))
        .collect();
    let first = json!({"token": tokens[0].0, "logprob": 0.8_f64.ln(), "top_logprobs": top});
    completion(&tokens[0].0, &json!({"content": [first]}))
}

/// Returns a completion with this text and these probabilities.
pub(crate) fn completion(text: &str, logprobs: &Value) -> Answer {
    let answer = json!({
        "object": "chat.completion",
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "logprobs": logprobs,
            "finish_reason": "length"
        }]
    });
    Answer::status(200, "Content-Type: application/json\r\n", answer.to_string())
}

/// Returns an error in OpenAI's form.
pub(crate) fn error(status: u16, message: &str) -> Answer {
    let body = json!({"error": {"message": message, "type": "test", "code": status}});
    Answer::status(status, "Content-Type: application/json\r\n", body.to_string())
}
