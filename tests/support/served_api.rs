//! A served HTTP API of this process, and its client.

use std::net::SocketAddr;
use std::time::Duration;

use dog_iqa::pipeline::Journey;
use dog_iqa::serve::{ServeError, ServeSummary, Server, Settings};
use jsonschema::Validator;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stream::{PATIENCE, metrics};

/// A running server.
pub(crate) struct ServedApi {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Result<ServeSummary, ServeError>>,
    client: Client,
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Response {
    /// Returns the code of a problem.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_else(|| panic!("no problem: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }
}

impl ServedApi {
    /// Serves a journey on a free port of this machine.
    pub(crate) async fn start(journey: &Journey, change: impl FnOnce(&mut Settings)) -> Self {
        metrics();
        let mut settings =
            Settings { listen: "127.0.0.1:0".parse().unwrap(), ..Settings::default() };
        change(&mut settings);
        let server = Server::bind(settings, journey).await.unwrap();
        let (address, shutdown) = (server.address(), CancellationToken::new());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { address, shutdown, task, client: client() }
    }

    /// Sends bytes to `/v1/score` with this query.
    pub(crate) async fn score(
        &self,
        query: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response {
        let request = self.client.post(self.url(&format!("/v1/score{query}")));
        send(request.headers(header_map(headers)).body(body)).await.unwrap()
    }

    /// Sends a reference to an object of the scene's store.
    pub(crate) async fn refer(&self, object: &str) -> Response {
        let body = json!({ "uri": format!("s3://photos/{object}") }).to_string();
        self.score("", &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        send(self.client.get(self.url(path))).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) -> Result<ServeSummary, ServeError> {
        self.shutdown.cancel();
        self.end().await
    }

    /// Waits for the server's end.
    pub(crate) async fn end(self) -> Result<ServeSummary, ServeError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server ends").unwrap()
    }
}

/// Returns a client that uses a new connection for each request.
pub(crate) fn client() -> Client {
    Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap()
}

/// Sends a request and reads the response.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<Response> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Ok(Response { status, headers, body })
}

/// Waits until a server accepts requests again that it has refused.
pub(crate) async fn until_status(status: u16, mut ask: impl AsyncFnMut() -> Response) -> Response {
    let mut checks = tokio::time::interval(Duration::from_millis(50));
    let wait = async {
        loop {
            let response = ask().await;
            if response.status == status {
                return response;
            }
            checks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the status changes")
}

/// Headers of HTTP itself, which no `OpenAPI` document declares.
const HTTP_HEADERS: [&str; 5] =
    ["connection", "content-length", "content-type", "date", "transfer-encoding"];

/// Asserts that the document has this response to a request to score an image.
pub(crate) fn assert_documented(document: &Value, response: &Response) {
    let place = format!("/paths/~1v1~1score/post/responses/{}", response.status);
    assert_described(document, &place, response);
}

/// Asserts that a response is as the document describes it at a place: that it has the declared
/// body and headers, and no others.
pub(crate) fn assert_described(document: &Value, place: &str, response: &Response) {
    let described = document.pointer(place);
    let described = described.unwrap_or_else(|| panic!("no {place} for {response:?}"));
    let content = described["content"].as_object().unwrap_or_else(|| panic!("{response:?}"));
    let content_type = response.header("content-type");
    let media = content.get(content_type).unwrap_or_else(|| panic!("{content_type}: {response:?}"));
    let mut schema = media["schema"].clone();
    schema["components"] = document["components"].clone();
    assert_valid(&schema, &response.body, response);
    let declared = described["headers"].as_object().unwrap();
    for (name, header) in declared {
        let Some(value) = response.headers.get(name) else {
            assert_eq!(header["required"], false, "no {name}: {response:?}");
            continue;
        };
        let value = value.to_str().unwrap();
        let value = match header["schema"]["type"].as_str().unwrap() {
            "integer" => json!(value.parse::<u64>().unwrap()),
            _ => json!(value),
        };
        assert_valid(&header["schema"], &value, response);
    }
    for name in response.headers.keys().map(HeaderName::as_str) {
        let is_declared = declared.contains_key(name) || HTTP_HEADERS.contains(&name);
        assert!(is_declared, "{name} is not declared: {response:?}");
    }
}

fn assert_valid(schema: &Value, value: &Value, response: &Response) {
    let validator: Validator =
        jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {response:?}");
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    headers.iter().map(pair).collect()
}
