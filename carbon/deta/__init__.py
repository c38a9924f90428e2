"""Energy trading and task allocation between edge servers, as linear programmes over slots of time.

DETA-style: the article (doi 10.1109/MCOM.003.2300175) has no formula, so the programme and its parameters are our own.
"""
