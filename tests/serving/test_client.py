"""The client against a server with injected faults: each passes or ends in one line."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.stub_server import FAULTS, StubServer

from visual_rft.errors import ConfigError, ServerError
from visual_rft.serving.addresses import Balance, address
from visual_rft.serving.client import Client, Patience, gathered
from visual_rft.serving.wire import Decoding
from visual_rft.vision.images import RenderedImage

QUICK = Patience(tries=3, first_pause=0.001, longest_pause=0.002, connect=2.0, answer=0.4)


def question(name: str = "a", image: Image.Image | None = None) -> SimpleNamespace:
    images = () if image is None else (RenderedImage(name, lambda: image),)
    return SimpleNamespace(id=name, text=f"Find {name}", images=images)


def test_a_question_goes_out_as_the_standard_says_and_the_pixels_arrive():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (7, 5, 3), dtype=np.uint8))
    with StubServer() as stub, Client([stub.url]) as client:
        decoding = Decoding(n=2, temperature=0.5, max_tokens=9, top_p=0.9, seed=3)
        (reply,) = client.ask([question("cat", picture)], decoding)
    (asked,) = stub.asked
    assert reply.texts == ("none", "none")
    assert asked.text == "Find cat"
    assert np.array_equal(np.asarray(asked.images[0]), np.asarray(picture))
    wanted = {"model": "stub", "n": 2, "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "seed": 3}
    assert {name: value for name, value in asked.body.items() if name != "messages"} == wanted


def test_nothing_that_only_vllm_knows_is_sent_unless_it_is_asked_for():
    body = Decoding(token_ids=True, top_k=4, forbidden=(7,), pattern="[a]").body("m", "t", [])
    own = {"logprobs", "return_token_ids", "top_k", "logit_bias", "structured_outputs"}
    assert own <= set(body)
    assert not own & set(Decoding().body("m", "t", []))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_not_seen(fault):
    with StubServer() as stub, Client([stub.url], patience=QUICK) as client:
        stub.faults = [fault]
        replies = list(client.ask([question(name) for name in "abc"], Decoding(n=2)))
    assert [len(reply.texts) for reply in replies] == [2, 2, 2]
    assert len(stub.asked) == 4


SAID = {
    "500": "status 500",
    "429": "status 429",
    "hang": "no answer within 0.4 s",
    "dies": "the connection broke",
    "fewer choices": "1 choices came back, 2 were asked for",
    "another model": "model 'somebody-else' answered, 'stub' was asked",
    "no json": "is no JSON",
    "no content": "no 'message'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_one_line(fault):
    with StubServer() as stub, Client([stub.url], patience=QUICK) as client:
        stub.faults = [fault] * 3
        with pytest.raises(ServerError) as caught:
            list(client.ask([question("a cat")], Decoding(n=2)))
        assert len(stub.asked) == 3
    said = str(caught.value)
    assert SAID[fault] in said
    assert "\n" not in said
    assert stub.url in said
    assert "question 'a cat'; 3 tries" in said


def test_a_server_that_is_not_there():
    with StubServer() as stub:
        pass
    with pytest.raises(ServerError, match=r"cannot be reached .* is it running\?.*3 tries"):
        Client([stub.url], patience=QUICK)


def test_a_refusal_is_said_at_once_and_ends_what_is_in_flight():
    with StubServer(seconds=0.01) as stub, Client([stub.url], patience=QUICK) as client:
        stub.faults = ["400"]
        with pytest.raises(ServerError, match=r"status 400.*injected.*question 'a'"):
            list(client.ask([question(name) for name in "abcdef"], Decoding()))
        assert next(client.ask([question("g")], Decoding())).texts == ("none",), "the client goes on"
    assert len([asked for asked in stub.asked if asked.text == "Find a"]) == 1


def test_a_group_is_whole_or_not_there():
    """What dies in a batch takes the batch with it: no reply of it is handed out."""
    with StubServer() as stub, Client([stub.url], patience=replace(QUICK, tries=1)) as client:
        stub.faults = [None, "dies"]
        futures = [client.submit(question(name), Decoding(n=2)) for name in "abc"]
        with pytest.raises(ServerError, match="the connection broke"):
            gathered(futures)


def test_the_other_server_answers_when_one_has_died():
    one, two = StubServer(lambda _: "one"), StubServer(lambda _: "two")
    with one, two, Client([one.url, two.url], patience=QUICK) as client:
        one.stop()
        texts = [reply.texts[0] for reply in client.ask([question(str(n)) for n in range(12)], Decoding())]
    assert texts == ["two"] * 12


def test_the_least_loaded_server_is_asked():
    slow, quick = StubServer(seconds=0.15), StubServer(seconds=0.001)
    with slow, quick, Client([slow.url, quick.url], patience=replace(QUICK, in_flight=4)) as client:
        list(client.ask([question(str(n)) for n in range(40)], Decoding()))
    assert len(quick.asked) > len(slow.asked) > 0


def test_many_are_in_flight_and_never_more_than_allowed():
    with StubServer(seconds=0.02) as stub, Client([stub.url], patience=replace(QUICK, in_flight=5)) as client:
        replies = list(client.ask([question(str(n)) for n in range(30)], Decoding()))
    assert len(replies) == 30
    assert 2 <= stub.most_at_once <= 5


def test_replies_come_in_the_order_of_the_questions():
    with StubServer(lambda asked: asked.text, seconds=0.001) as stub, Client([stub.url]) as client:
        texts = [reply.texts[0] for reply in client.ask([question(str(n)) for n in range(50)], Decoding())]
    assert texts == [f"Find {n}" for n in range(50)]


def test_balance_prefers_the_least_loaded_and_avoids_what_failed():
    balance = Balance(["a", "b"])
    assert [balance.take() for _ in range(4)] == ["a", "b", "a", "b"]
    balance.give_back("a", failed=True)
    assert balance.take() == "b", "a has failed"
    assert balance.take(avoid="b") == "a", "but it is asked before the one that failed this very request"
    balance.give_back("a", failed=False)
    assert balance.take() == "a"


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("VISUAL_RFT_SERVER_KEY", "s3cret-key")
    with StubServer(key="s3cret-key") as stub, Client([stub.url]) as client:
        assert client.model == "stub"
        assert "s3cret-key" not in repr(vars(client)["urls"])
    with StubServer(key="another") as stub, pytest.raises(ServerError, match="set VISUAL_RFT_SERVER_KEY") as caught:
        Client([stub.url])
    assert "s3cret" not in str(caught.value) + caplog.text
    with pytest.raises(ConfigError, match="put the key into VISUAL_RFT_SERVER_KEY") as caught:
        address("http://me:s3cret@somewhere:80/v1")
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("VISUAL_RFT_SERVER_KEY", "s3cret\nX: y")
    with pytest.raises(ConfigError, match="characters") as caught:
        Client(["http://127.0.0.1:1"])
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "http://a:99999", "http://a/v1?key=x", ""])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:8000"):
        address(url)


def test_the_model_is_found_or_named():
    listed = {"data": [{"id": "a"}, {"id": "b"}]}
    with StubServer() as stub:
        handle = stub.handle

        def two_models(request, method):
            if request.path == "/v1/models":
                stub.send(request, 200, listed)
            else:
                handle(request, method)

        stub.handle = two_models
        with pytest.raises(ConfigError, match=r"serves 2 models \(a, b\); name one"):
            Client([stub.url])
        with Client([stub.url], model="b") as client:
            next(client.ask([question()], Decoding()))
    assert stub.asked[0].body["model"] == "b"


def test_the_name_of_the_limit_that_a_hosted_model_wants():
    with StubServer() as stub, Client([stub.url], patience=QUICK) as client:
        chat = stub.chat

        def hosted(request, body):
            if "max_tokens" in body:
                stub.send(request, 400, {"error": "use 'max_completion_tokens' instead"})
            else:
                chat(request, body)

        stub.chat = hosted
        assert next(client.ask([question()], Decoding(max_tokens=7))).texts == ("none",)
    assert stub.asked[0].body["max_completion_tokens"] == 7


def test_reasoning_kept_apart_is_put_back():
    said = {"message": {"content": "<answer>no</answer>", "reasoning_content": "look"}}
    with StubServer(lambda _: said) as stub, Client([stub.url]) as client:
        assert next(client.ask([question()], Decoding())).texts == ("<think>look</think><answer>no</answer>",)
        stub.reply = lambda _: "look</think><answer>no</answer>"
        assert next(client.ask([question()], Decoding())).texts == ("<think>look</think><answer>no</answer>",)


def test_closing_ends_what_hangs():
    with StubServer() as stub:
        client = Client([stub.url])
        stub.faults = ["hang"]
        future = client.submit(question(), Decoding())
        client.close()
        client.close()
        assert future.cancelled() or future.exception(timeout=5) is not None
    assert not [thread for thread in threading.enumerate() if thread.name == "server client"]
