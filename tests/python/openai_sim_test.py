"""The official `openai` library against the simulated model.

    openai_sim_test.py --base-url http://127.0.0.1:12111

Owns what the library's users rely on: that it reads the answers, calls of tools among them, and knows the errors.
Deliberately absent: what the Rust tests of the simulator say better, such as scripts.
"""

import json
import sys
import unittest

import openai

import simulator
from simulator import control

TOOL = {
    "type": "function",
    "function": {
        "name": "escalate",
        "parameters": {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]},
    },
}


class OpenAiTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(control, "DELETE", "/faults")
        control("POST", "/openai/accounts", {"api_key": "sk-test"})
        self.model = self.client()

    def client(self, key="sk-test"):
        # The library's own retries would hide what is tested here.
        return openai.OpenAI(api_key=key, base_url=f"{simulator.BASE}/openai/v1", max_retries=0)

    def ask(self, words, **more):
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": words}]
        return self.model.chat.completions.create(model="gpt-4.1-mini", messages=messages, **more)

    def test_it_answers_with_what_it_was_asked(self):
        answer = self.ask("Is Tuesday free?\nOr Friday")
        self.assertIn('"Is Tuesday free?", then "Or Friday"', answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertIn("gpt-4.1-mini", [model.id for model in self.model.models.list()])

    def test_it_calls_the_tool_when_asked_for_a_person(self):
        choice = self.ask("a human, please", tools=[TOOL]).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        call = choice.message.tool_calls[0]
        self.assertEqual((call.function.name, json.loads(call.function.arguments)), ("escalate", {"summary": "a human, please"}))

    def test_errors_are_the_librarys(self):
        with self.assertRaises(openai.AuthenticationError) as refused:
            self.client("sk-other").models.list()
        self.assertEqual(refused.exception.code, "invalid_api_key")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.ask("Hi", stream=True)
        self.assertEqual(refused.exception.param, "stream")
        for status, error in [(429, openai.RateLimitError), (503, openai.InternalServerError)]:
            control("POST", "/faults", {"provider": "openai", "kind": "status", "value": status, "count": 1})
            with self.assertRaises(error) as failed:
                self.ask("Hi")
            if status == 429:
                self.assertEqual(failed.exception.response.headers["retry-after"], "1")


if __name__ == "__main__":
    simulator.run(sys.modules["__main__"])
