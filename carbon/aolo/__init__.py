"""Language-model services over a radio link: footprint, optimum, environments and agents, after AOLO (2503.04418).

The abstract of AOLO names its parts. Its equations and parameters are not public, so those here are our own. Start with
:class:`carbon.aolo.service.Service` and :func:`carbon.aolo.oracle.solve`.
"""
