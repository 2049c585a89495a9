//! A headless Chromium, driven over `WebDriver` (<https://www.w3.org/TR/webdriver2/>).

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::service_fixture::WAIT_MAX;
use crate::services::{Started, announce, script_command};
use crate::wait;

/// Name under which `WebDriver` returns the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// A browser with one window. Dropping it closes it.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Client,
    session: String,
    driver: Started,
}

impl Browser {
    /// Starts a browser. Returns `None` if this machine has none, and prints the reason; with
    /// `DOGIQA_SERVICES=required` that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let available = script_command("browser.sh", "available").output().unwrap();
        if !available.status.success() {
            let reason = String::from_utf8_lossy(&available.stderr);
            let is_required =
                std::env::var_os("DOGIQA_SERVICES").is_some_and(|it| it == "required");
            assert!(!is_required, "DOGIQA_SERVICES=required, but {reason}");
            announce(&format!("skipping the test with a browser: {}", reason.trim()));
            return None;
        }
        let driver = Started::by("browser.sh", &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
        let session = driver.value("BROWSER_DRIVER").unwrap().to_owned() + "/session";
        let mut browser = Self { runtime, client, session, driver };
        let arguments = [
            "--headless=new",
            // The browser ends with its driver.
            "--remote-debugging-pipe",
            // Root, as in containers, has no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
        ];
        let binary = browser.driver.value("BROWSER_BINARY").unwrap();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": binary, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.command(Method::POST, "", &wanted);
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    pub(crate) fn open(&self, url: &str) {
        self.command(Method::POST, "/url", &json!({"url": url}));
    }

    /// Runs the body of a function in the page and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command(Method::POST, "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression of the page is true. The failure shows the page's text.
    pub(crate) fn wait_for(&self, expression: &str) {
        let is_true = || self.run(&format!("return Boolean({expression})")) == true;
        if !wait::until(is_true, Duration::from_secs(40)) {
            let text = self.run("return document.body.innerText");
            panic!("`{expression}` is not true: {}", text.as_str().unwrap_or_default());
        }
    }

    /// Sends keys to the element that has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let active = self.command(Method::GET, "/element/active", &Value::Null);
        let path = format!("/element/{}/value", active[ELEMENT].as_str().unwrap());
        self.command(Method::POST, &path, &json!({"text": keys}));
    }

    /// Returns role and name of all elements of a selector, as assistive technology gets them.
    pub(crate) fn accessible(&self, selector: &str) -> Vec<(String, String)> {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.command(Method::POST, "/elements", &query);
        let property = |element: &Value, name: &str| {
            let id = element[ELEMENT].as_str().unwrap();
            let path = format!("/element/{id}/{name}");
            self.command(Method::GET, &path, &Value::Null).as_str().unwrap().to_owned()
        };
        let pair = |it: &Value| (property(it, "computedrole"), property(it, "computedlabel"));
        found.as_array().unwrap().iter().map(pair).collect()
    }

    /// Sets the size of the page in CSS pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.command(Method::POST, "/goog/cdp/execute", &command);
    }

    /// Returns the errors on the console since the last call.
    pub(crate) fn console_errors(&self) -> Vec<String> {
        let lines = self.command(Method::POST, "/se/log", &json!({"type": "browser"}));
        let lines = lines.as_array().unwrap().iter();
        let errors = lines.filter(|line| line["level"] == "SEVERE");
        errors.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    fn command(&self, method: Method, path: &str, body: &Value) -> Value {
        let mut request = self.client.request(method, format!("{}{path}", self.session));
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let text = async { request.send().await.unwrap().text().await.unwrap() };
        let answer: Value = serde_json::from_str(&self.runtime.block_on(text)).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.runtime.block_on(async { self.client.delete(&self.session).send().await }));
    }
}
