"""The answers, without a server: python3 -m unittest."""

import unittest

from answer import answer


class Answers(unittest.TestCase):
    def test_a_body_is_echoed(self):
        self.assertEqual(answer("POST", "/echo", b"\0\1"), (200, b"\0\1"))

    def test_an_unknown_path_is_not_found(self):
        self.assertEqual(answer("GET", "/none", b""), (404, b"Not found\n"))

    def test_a_name_that_leads_out_is_refused(self):
        for name in ["", "..", "a/b", "../a", ".hidden", "%2e%2e"]:
            with self.subTest(name):
                self.assertEqual(answer("PUT", "/store/" + name, b"")[0], 400)
