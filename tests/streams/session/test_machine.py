from streams.session.machine import machine, machine_facts


def test_the_machine_is_named_with_its_load():
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["load_1_min"] >= 0
    assert f"{facts['cores']} cores, {facts['cpu']}" in machine()
    assert "load " in machine()
