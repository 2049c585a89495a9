//! `dogiqa monitor` on a real Kafka and S3 server, in a real browser.

use std::io;
use std::net::{TcpListener, TcpStream};

use dog_iqa::event::{DeadLetterReason, Source};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::browser::{Browser, ENTER, TAB};
use crate::bucket;
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::services;
use crate::topic_admin::TopicAdmin;

const HOSTILE: &str = "<img src=x onerror=window.attacked=1>";
/// The topic of the second engine.
const SHADOW_TOPIC: &str = "monitor.shadow";
/// Events of one second at the rate that the page must bear.
const EVENTS_A_SECOND: usize = 5_000;

#[test]
fn the_page_shows_the_topics_to_eyes_keyboards_and_screen_readers() {
    let Some(services) = services() else { return };
    let Some(browser) = Browser::start() else { return };
    let fixture = ServiceFixture::new(services, "monitor", 3);
    publish_answers(&fixture);
    publish_shadow(&fixture);
    leave_a_backlog(&fixture);

    // No broker listens there yet.
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let (monitor, page) = start_monitor(&fixture, &address.to_string());
    browser.open(&page);
    browser.wait_for("document.querySelector('#alerts').innerText.includes('Kafka is away')");
    browser.wait_for("document.querySelector('#status').innerText == 'Kafka is not read'");
    let listener = TcpListener::bind(address).unwrap();
    let broker = services.bootstrap_servers().to_owned();
    std::thread::spawn(move || forward(&listener, &broker));
    browser.wait_for("document.querySelector('#status').innerText == 'Live'");
    browser.wait_for("document.querySelector('#alerts').children.length == 0");

    assert_shows_the_counts(&browser);
    assert_compares_the_engines(&browser);
    assert_shows_rejected_images(&browser);
    assert_is_usable_by_keyboard(&browser);
    assert_has_accessible_names(&browser);
    browser.resize(360, 800);
    let overflow = "const it = document.documentElement; return it.scrollWidth - it.clientWidth";
    assert_eq!(browser.run(overflow), 0, "the page fits a phone");

    let event = event("shop", "pass", 5.0).to_string();
    let record = || PublishedRecord { payload: Some(event.clone().into()), ..Default::default() };
    fixture.publish_to(&fixture.events(), (0..EVENTS_A_SECOND).map(|_| record()));
    browser.wait_for("document.querySelector('#rate-note').innerText.startsWith('5,020 in ')");
    assert_says_what_is_missing(&browser);
    assert_eq!(browser.console_errors(), Vec::<String>::new());
    monitor.terminate();
    assert_eq!(monitor.wait(WAIT_MAX).code(), Some(0));
}

fn event(policy: &str, outcome: &str, score: f64) -> Value {
    let example = include_str!("../../schemas/examples/quality-event.json");
    let mut event: Value = serde_json::from_str(example).unwrap();
    event["score"] = json!(score);
    event["verdict"] = json!({"policy": policy, "outcome": outcome, "reasons": []});
    event.as_object_mut().unwrap().remove("reasons").expect("the example has reasons");
    event
}

/// Publishes 20 events, two of them rejected, and three dead letters.
fn publish_answers(fixture: &ServiceFixture) {
    let sample = &bucket::fifty_images(fixture.services)[0];
    let mut events: Vec<_> = (0..20)
        .map(|number| match number {
            0..10 => event("shop", "pass", 5.0),
            10..18 => event("gallery", "review", 4.0),
            _ => event("shop", "reject", 2.0),
        })
        .collect();
    for (number, event) in events.iter_mut().enumerate() {
        let market = if number % 2 == 0 { "de" } else { "fr" };
        event["reference"]["id"] = json!(format!("upload-{number}"));
        event["reference"]["metadata"] = json!({"market": market});
    }
    events[19]["reference"]["id"] = json!(HOSTILE);
    for event in &mut events[18..] {
        event["reference"]["uri"] = json!(bucket::uri(fixture.services, &sample.key));
        event["image"]["sha256"] = json!(hex::encode(Sha256::digest(&sample.bytes)));
        event["verdict"]["reasons"] = json!([format!("{HOSTILE} is below the minimum")]);
        event["reasons"] = json!([{"code": "blurred", "strength": 0.8, "scope": "image"}]);
    }
    fixture.publish_to(&fixture.events(), events.iter().map(value));
    let codes = ["fetch.not_found", "decode.truncated", "fetch.not_found"];
    fixture.publish_to(&fixture.dead_letters(), codes.into_iter().map(dead_letter));
}

/// Publishes the events of a second engine for eleven images. One was never answered, and one has
/// another verdict.
fn publish_shadow(fixture: &ServiceFixture) {
    TopicAdmin::new(fixture.client()).create(SHADOW_TOPIC, fixture.partitions(), 1);
    let events = (0..11).map(|number| {
        let mut event = event("shop", if number == 0 { "reject" } else { "pass" }, 5.5);
        let id = if number == 10 { "unanswered".to_owned() } else { format!("upload-{number}") };
        event["reference"]["id"] = json!(id);
        event["engine"]["name"] = json!(HOSTILE);
        event["engine"]["weights"] = json!([{"name": "a", "sha256": "ab".repeat(32)}]);
        event
    });
    fixture.publish_to(SHADOW_TOPIC, events.map(|event| value(&event)));
}

fn value(event: &Value) -> PublishedRecord {
    PublishedRecord { payload: Some(event.to_string().into()), ..PublishedRecord::default() }
}

fn dead_letter(code: &str) -> PublishedRecord {
    let reason = DeadLetterReason {
        code: code.to_owned(),
        message: "it failed".to_owned(),
        stage: "fetch".to_owned(),
        attempts: 1,
        time: chrono::Utc::now(),
        group: "monitor".to_owned(),
        version: "0.1.0".to_owned(),
        original: Source {
            topic: "references".to_owned(),
            partition: 0,
            offset: 1,
            timestamp: None,
            index: None,
        },
    };
    let bytes = |(name, value): (String, String)| (name, Some(value.into_bytes()));
    let headers = reason.headers().into_iter().map(bytes).collect();
    PublishedRecord { headers, payload: Some(b"{}".to_vec()), ..PublishedRecord::default() }
}

/// Publishes ten references. The group has committed all but seven.
fn leave_a_backlog(fixture: &ServiceFixture) {
    fixture.publish_references(10);
    let ends = fixture.end_offsets(&fixture.input());
    let group: BaseConsumer = fixture.client().set("group.id", fixture.group()).create().unwrap();
    let mut committed = TopicPartitionList::new();
    let mut left = 3;
    for (partition, end) in (0..).zip(ends) {
        let offset = end.min(left);
        left -= offset;
        let offset = Offset::Offset(offset);
        committed.add_partition_offset(&fixture.input(), partition, offset).unwrap();
    }
    group.commit(&committed, CommitMode::Sync).unwrap();
}

/// Returns the process and the address of its page.
fn start_monitor(fixture: &ServiceFixture, broker: &str) -> (Process, String) {
    let settings = [
        "monitor.listen=127.0.0.1:0".to_owned(),
        "monitor.metadata=[\"market\"]".to_owned(),
        "monitor.lag_interval=1s".to_owned(),
        "kafka.probe_timeout=1s".to_owned(),
        format!("kafka.shadow_topic={SHADOW_TOPIC}"),
        format!("kafka.bootstrap_servers={broker}"),
    ];
    let mut command = fixture.command(&["monitor", "--since", "1h"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let monitor = Process::spawn("the monitor", &mut command);
    let line = monitor.wait_for_line("the page is at ", WAIT_MAX);
    let page = line.split_once("the page is at ").unwrap().1;
    let page = page.split_once(';').unwrap().0.to_owned();
    (monitor, page)
}

/// Forwards connections to the broker, until the process ends.
fn forward(listener: &TcpListener, broker: &str) {
    for client in listener.incoming() {
        let (client, server) = (client.unwrap(), TcpStream::connect(broker).unwrap());
        let both = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
        for (from, to) in both {
            let (mut from, mut to): (TcpStream, TcpStream) = (from.unwrap(), to.unwrap());
            // A closed connection ends the copy with an error.
            std::thread::spawn(move || io::copy(&mut from, &mut to).ok());
        }
    }
}

fn assert_shows_the_counts(browser: &Browser) {
    browser
        .wait_for("document.querySelector('#rate-note').innerText == '20 in the last 5 minutes'");
    browser.wait_for("document.querySelector('#lag').innerText == '7'");
    let rows = "return [...document.querySelectorAll('#verdicts tbody tr')]\
                .map((row) => [...row.cells].map((cell) => cell.innerText.trim()))";
    let expected = json!([
        ["gallery", "8", "0.0 %", "100.0 %", "0.0 %", ""],
        ["shop", "12", "83.3 %", "0.0 %", "16.7 %", ""],
    ]);
    assert_eq!(browser.run(rows), expected);
    let text = |id: &str| browser.run(&format!("return document.querySelector('{id}').innerText"));
    assert_eq!(text("#rejected-share"), "10.0 %");
    assert_eq!(text("#dead"), "3");
    assert_eq!(text("#psi"), "–", "there is no reference");
    for (id, part) in [
        ("#reasons", "blurred\t2\t100.0 %"),
        ("#dead-letters", "fetch.not_found\t2\t66.7 %"),
        ("#topics", "monitor.events and monitor.dead-letters, group monitor"),
    ] {
        let text = text(id);
        assert!(text.as_str().unwrap().contains(part), "{text}");
    }
}

fn assert_compares_the_engines(browser: &Browser) {
    browser.wait_for("document.querySelector('#pairs').innerText == '10'");
    let text = |id: &str| browser.run(&format!("return document.querySelector('{id}').innerText"));
    for (id, part) in [
        ("#shadow-engine", "Shadow: <img src=x onerror=window.attacked=1> 0.1.0 (felzenszwalb, "),
        ("#shadow-engine", "weights abababababab). Answers: classic 0.1.0 ("),
        ("#shadow-rate-note", "11 in the last 5 minutes, 55.0 % of the events"),
        (
            "#shadow-note",
            "Topic monitor.shadow, the last 5 minutes: mean 5.50 of the shadow, 4.30 ",
        ),
        ("#pair-difference", "+0.50"),
        ("#pair-difference-note", "0.50 without signs"),
        ("#pair-srcc", "–"),
        ("#changed-share", "10.0 %"),
        ("#changed-note", "1 of 10 pairs with verdicts"),
    ] {
        let text = text(id);
        assert!(text.as_str().unwrap().contains(part), "{text}");
    }
    assert_ne!(text("#shadow-psi"), "–");
    assert_eq!(
        browser.run("return document.querySelectorAll('#shadow-chart path.line').length"),
        1
    );
    let hidden = "showShadow({...latest, shadow: null}); \
                  return document.querySelector('#shadow').checkVisibility()";
    assert_eq!(browser.run(hidden), false, "there is no section without a shadow");
    browser.wait_for("document.querySelector('#shadow').checkVisibility()");
}

fn assert_shows_rejected_images(browser: &Browser) {
    let cards = "[...document.querySelectorAll('#gallery > li')]";
    browser.wait_for(&format!("{cards}.length == 2"));
    let titles = browser
        .run(&format!("return {cards}.map((card) => card.querySelector('h3').innerText).sort()"));
    assert_eq!(titles, json!([HOSTILE, "upload-18"]), "text of events stays text");
    assert_eq!(browser.run("return document.querySelectorAll('img[src=x]').length"), 0);
    assert_eq!(browser.run("return window.attacked === undefined"), true);
    browser.run("document.querySelector('#gallery').scrollIntoView()");
    browser.wait_for(
        "[...document.querySelectorAll('.picture img')].every((image) => image.naturalWidth > 0)",
    );
}

fn assert_says_what_is_missing(browser: &Browser) {
    let foot_after = |since_ms: &str, is_skipped: bool| {
        let interruption = json!({"is_skipped": is_skipped});
        let script = format!(
            "const interruption = {{...{interruption}, since_ms: {since_ms}, until_ms: {since_ms}}};
             showFoot({{...latest, kafka: {{...latest.kafka, interruption}}}});
             return document.querySelector('#foot').innerText"
        );
        browser.run(&script).as_str().unwrap().to_owned()
    };
    assert!(foot_after("latest.now_ms", false).contains("Reading was interrupted from "));
    assert!(foot_after("latest.now_ms", true).contains("Records could not be read from "));
    let old = foot_after("latest.now_ms - 1000 * (latest.window_s + latest.reference_s)", true);
    assert!(!old.contains("could not be read"), "{old}");
}

fn assert_is_usable_by_keyboard(browser: &Browser) {
    browser.run("window.scrollTo(0, 0); document.activeElement.blur()");
    let mut order = Vec::new();
    for _ in 0..9 {
        browser.press(TAB);
        let name = "const it = document.activeElement; \
                    return it.id || it.name || it.className || it.innerText";
        order.push(browser.run(name).as_str().unwrap().to_owned());
        let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
        assert_ne!(outline, "none", "the focus on {order:?} is visible");
    }
    let expected = [
        "skip",
        "pause",
        "policy",
        "metadata.market",
        "Scores as a table",
        "Backlog by partition",
        "Scores of both engines as a table",
        "Outline regions",
        "Outline regions",
    ];
    assert_eq!(order, expected);

    browser.run("document.querySelector('.gallery button').focus()");
    browser.press(ENTER);
    browser.wait_for("document.querySelectorAll('.picture svg path.outline').length == 2");
    assert_eq!(browser.run("return document.activeElement.getAttribute('aria-pressed')"), "true");
    browser.run("document.querySelector('#policy').focus()");
    browser.press("shop");
    browser.wait_for("document.querySelectorAll('#verdicts tbody tr').length == 1");
    browser
        .wait_for("document.querySelector('#filter-note').innerText.startsWith('12 of 20 events')");
    assert_eq!(browser.run("return location.search"), "?policy=shop");
    browser.run("document.querySelector('#pause').focus()");
    browser.press(ENTER);
    browser.wait_for("document.querySelector('#status').innerText == 'Paused'");
    browser.press(ENTER);
    browser.run("document.querySelector('#clear').focus()");
    browser.press(ENTER);
    browser.wait_for("document.querySelectorAll('#verdicts tbody tr').length == 2");
    assert_eq!(browser.run("return document.activeElement.id"), "policy");
}

fn assert_has_accessible_names(browser: &Browser) {
    browser.run("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    browser.wait_for("document.querySelector('#scores-table table')");
    browser.wait_for("document.querySelector('#partitions table')");
    browser.wait_for("document.querySelector('#shadow-table table')");
    // The elements must not be replaced while their names are read.
    browser.run("document.querySelector('#pause').click()");
    browser.wait_for("document.querySelector('#status').innerText == 'Paused'");
    let selector = "a, button, select, table, section, form, main, .chart svg, .picture img, \
                    .picture svg, #alerts";
    let found = browser.accessible(selector);
    let unnamed: Vec<_> = found
        .iter()
        .filter(|(role, name)| {
            name.is_empty() && !["main", "none", "generic"].contains(&role.as_str())
        })
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
    let count = |wanted: &str| found.iter().filter(|(role, _)| role == wanted).count();
    assert_eq!(count("table"), 6, "{found:?}");
    assert_eq!((count("status"), count("main"), count("combobox")), (1, 1, 2), "{found:?}");
    let headings = browser.run(
        "return [...document.querySelectorAll('h1, h2, h3')].map((it) => it.tagName).join(' ')",
    );
    assert_eq!(headings, "H1 H2 H2 H2 H2 H2 H2 H2 H2 H3 H3", "no level is skipped");
    let is_live = browser.run("return document.querySelector('#alerts').ariaLive");
    assert_eq!(is_live, "polite");
    browser.run("document.querySelector('#pause').click()");
}
